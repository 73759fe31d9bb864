//! Runs a test on each runtime, and futures step by step.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ringpost::{Async, Client};

use crate::common::{Bus, within_limit};

/// Makes three tests of an `async fn`: one for each runtime. The module of each has the name of the function.
macro_rules! on_each_runtime {
    ($($test:ident)*) => { $(
        mod $test {
            #[test]
            fn on_a_current_thread_of_tokio() {
                crate::run::on_a_current_thread(stringify!($test), super::$test());
            }

            #[test]
            fn on_many_threads_of_tokio() {
                crate::run::on_many_threads(stringify!($test), super::$test());
            }

            #[test]
            fn on_async_io() {
                crate::run::on_async_io(stringify!($test), super::$test());
            }
        }
    )* };
}

pub trait Test: Future<Output = ()> + Send + 'static {}

impl<F: Future<Output = ()> + Send + 'static> Test for F {}

pub fn on_a_current_thread(name: &str, test: impl Test) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    within_limit(name, move || runtime.block_on(test));
}

pub fn on_many_threads(name: &str, test: impl Test) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    within_limit(name, move || runtime.block_on(async { tokio::spawn(test).await.unwrap() }));
}

pub fn on_async_io(name: &str, test: impl Test) {
    within_limit(name, move || async_io::block_on(test));
}

/// Sleeps in any runtime.
pub async fn sleep(milliseconds: u64) {
    async_io::Timer::after(Duration::from_millis(milliseconds)).await;
}

/// Polls a future at most so many times, each time when it is due, and drops it then. Its output, if it came
/// that far.
pub async fn poll_times<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|cx| {
        while polls < times {
            polls += 1;
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => return Poll::Ready(Some(output)),
                Poll::Pending if polls < times => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        Poll::Ready(None)
    })
    .await
}

impl Bus {
    /// A client whose operations are futures.
    pub fn wrapped(&self, name: &str) -> Async<Client> {
        Async::new(self.client(name)).unwrap()
    }
}

/// Wraps each half of a client.
pub fn halves(client: Client) -> (Async<ringpost::Caller>, Async<ringpost::Inbox>) {
    let (caller, inbox) = client.split();
    (Async::new(caller).unwrap(), Async::new(inbox).unwrap())
}

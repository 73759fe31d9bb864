//! The service of a client with links: checks what comes, counts the posts of each link, and answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringpost::{Request, Response, Service, ServiceError};

use super::super::content::{PANIC, REFUSAL};
use super::super::history::Op;
use super::Linker;
use super::content::{self, Posts, Task};

/// What came over one link.
#[derive(Debug, Default)]
struct Count {
    last: u64,
    posts: Posts,
}

/// Requests and posts that come twice, out of their order or damaged are broken promises.
pub struct Counting {
    linker: Arc<Linker>,
    links: Mutex<HashMap<u64, Count>>,
}

impl Counting {
    pub fn new(linker: &Arc<Linker>) -> Arc<Counting> {
        Arc::new(Counting { linker: Arc::clone(linker), links: Mutex::default() })
    }

    pub fn answer(&self, request: Request<'_>, answer: &mut Response<'_>) -> Result<(), ServiceError> {
        let payload = request.payload();
        let violation = |what: &str| -> ! { self.linker.history.violation(1, Op::Serve, what) };
        let asked = match content::read(payload) {
            Ok(asked) => asked,
            Err(what) => violation(&format!("{what} of {:?}", request.peer().name)),
        };
        if asked.task.is_post() == request.wants_response() {
            violation(&format!("{asked:?}, and a response is wanted: {}", request.wants_response()));
        }
        let posts = {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            let count = links.entry(asked.link).or_default();
            if asked.number <= count.last {
                violation(&format!("{asked:?} came behind number {}", count.last));
            }
            count.last = asked.number;
            if asked.task.is_post() {
                count.posts.add(asked.number, payload.len());
            }
            count.posts
        };
        match asked.task {
            Task::Slowly => std::thread::sleep(Duration::from_micros(asked.much.min(10_000))),
            Task::Fail | Task::PostFail => return Err(ServiceError::new(REFUSAL)),
            Task::Panic => std::panic::panic_any(PANIC),
            Task::Turn | Task::Much | Task::Post | Task::PostPanic => {}
        }
        // In pieces, so that a draft grows. What is written for a post goes to nobody.
        let response = content::response(payload, &asked, &posts);
        for piece in response.chunks(300) {
            answer.write(piece)?;
        }
        if asked.task == Task::PostPanic {
            std::panic::panic_any(PANIC);
        }
        Ok(())
    }
}

/// For a listener that serves all its links.
pub struct Shared(pub Arc<Counting>);

impl Service for Shared {
    fn call(&self, request: Request<'_>, answer: &mut Response<'_>) -> Result<(), ServiceError> {
        self.0.answer(request, answer)
    }
}

//! `--ready-fd`: tells whoever started the server that clients can connect.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use ringpost::cli::exit::{self, Failure};
use ringpost::cli::inherited;

/// The descriptor to tell it by. If the server does not start, it is closed without a word.
pub struct Ready(Option<OwnedFd>);

impl Ready {
    /// Takes over the descriptor with this number.
    pub fn through(number: Option<i32>) -> Result<Ready, Failure> {
        let take = |number| {
            inherited::take(number).map_err(|error| {
                Failure::usage(format!(
                    "--ready-fd {number}: {error}; give the number of a descriptor from 3 on that is left open for the server"
                ))
            })
        };
        number.map(take).transpose().map(Ready)
    }

    /// Writes a line, and closes the descriptor.
    pub fn tell(self) {
        if let Some(descriptor) = self.0
            && let Err(error) = File::from(descriptor).write_all(b"ready\n")
        {
            exit::note(format_args!("cannot tell through --ready-fd that the server is ready: {error}"));
        }
    }
}

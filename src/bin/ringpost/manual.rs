//! What the man pages of `ringpost` say besides its options.

use ringpost::cli::manual::Manual;

pub const MANUAL: Manual = Manual {
    exit_status: &[
        (
            "0",
            "Success. This includes the end by SIGINT, SIGTERM or SIGHUP of a command that runs until it is ended.",
        ),
        ("1", "Failure. A line on standard error says why, and what to do."),
        ("2", "The command line is wrong. A line on standard error says where."),
        ("1, 2 of doctor", "It found warnings; it found problems. Standard output says which."),
    ],
    environment: &[("PATH", "Where serve --exec looks for its command.")],
    files: &[],
    see_also: "ringpost(1), ringpost-server(1), ringpost-bench(1)",
};

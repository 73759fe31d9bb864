//! What the man pages of `ringpost-bench` say besides its options.

use ringpost::cli::manual::Manual;

pub const MANUAL: Manual = Manual {
    exit_status: &[
        ("0", "Success."),
        ("1", "Failure. A line on standard error says why, and what to do."),
        ("2", "The command line is wrong. A line on standard error says where."),
    ],
    environment: &[],
    files: &[],
    see_also: "ringpost(1), ringpost-server(1)",
};

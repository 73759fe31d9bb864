//! What the man page of `ringpost-server` says besides its options.

use ringpost::cli::manual::Manual;

pub const MANUAL: Manual = Manual {
    exit_status: &[
        ("0", "The server was ended by a signal, and has answered what was asked."),
        ("1", "Failure. A line on standard error says why, and what to do."),
        (
            "2",
            "The command line, the configuration or the socket that was passed is wrong. Starting again does not help.",
        ),
    ],
    environment: &[
        ("NO_COLOR", "If set and not empty, the log is not coloured on a terminal."),
        (
            "LISTEN_PID, LISTEN_FDS",
            "A service manager passes the socket, as descriptor 3. Its path is the server's.",
        ),
        (
            "NOTIFY_SOCKET",
            "A service manager is told when the server is ready, loads its configuration, and ends.",
        ),
        (
            "WATCHDOG_PID, WATCHDOG_USEC",
            "A service manager is told that the server answers, at least this often.",
        ),
    ],
    files: &[
        (
            "SOCKET.lock",
            "The lock file of a server that has made its socket itself. Both are removed at the end.",
        ),
        ("/etc/ringpost/server.toml", "The configuration of the system's server (see --config)."),
        ("/etc/passwd, /etc/group", "Where names of users and groups are looked up."),
    ],
    see_also: "ringpost(1), ringpost-bench(1), systemd.socket(5)",
};

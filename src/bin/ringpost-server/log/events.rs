//! The events of the log, and the part of the help that describes them.

use std::fmt::Write;

/// The events: name, level, fields and meaning. Names are never changed, because programs parse them; new
/// ones may be added.
const EVENTS: &[(&str, &str, &str, &str)] = &[
    ("listening", "info", "socket pid version", "clients can connect"),
    ("register", "info", "name key pid uid", "a client registered"),
    ("unregister", "info", "name key", "a client unregistered"),
    ("death", "warn", "name key pid", "a client ended without unregistering"),
    ("violation", "warn", "name key pid what", "a client broke the protocol and was disconnected"),
    ("refused", "warn", "reason name pid uid gid error", "a connection was refused (fields as far as known)"),
    ("message", "debug", "from from_key to to_key bytes outcome", "a message was sent"),
    ("introduction", "debug", "from from_key to refusal", "a client asked for a link to another"),
    ("topic", "debug", "topic name key change refusal", "a topic was published, refused or ended"),
    ("call", "trace", "name key bytes_in bytes_out", "a call to the server's service was answered"),
    ("metrics", "info", "address", "metrics can be scraped there"),
    ("control", "info", "command pid uid error", "an operator gave a command, such as `ringpost reload`"),
    ("reload", "info", "rules users groups restart", "log and access rules were loaded anew"),
    ("not_reloaded", "error", "error", "log or configuration could not be loaded anew; all is as before"),
    ("notify", "warn", "error", "the service manager could not be told something"),
    ("watchdog", "error", "error", "the server did not answer itself; the watchdog is not fed"),
    ("limit", "warn", "needed limit", "the limit of open files is too low"),
    ("unknown_user", "warn", "uid", "the server's user has no number in its user namespace"),
    ("fall_back", "warn", "call error instead", "the system refuses a call, and the server does without"),
    ("registry", "error", "name error", "an operation of the registry failed"),
    (
        "abandoned",
        "warn",
        "name key pid workers",
        "a client's call did not return from the service before the end",
    ),
    ("failed", "error", "error", "the server ended because of a bug"),
    ("panic", "error", "thread place error", "a thread of the server panicked"),
    ("left_out", "warn", "of uid events", "events of one kind and user that were too many to log"),
    ("cut_off", "error", "", "the server ended because its process closed its descriptors"),
    ("dropped", "warn", "lines total error", "lines of the log were lost"),
    ("rotation", "warn", "error", "the log file could not be rotated"),
    ("reopening", "warn", "error", "the log file was moved, and could not be opened anew"),
    (
        "stopped",
        "info",
        "signal clients calls messages bytes_in bytes_out refused violations\n                     abandoned seconds",
        "the server ended; totals of its run",
    ),
];

/// The part of the help that describes the log.
pub fn help() -> String {
    let mut text = String::from(
        "Each line of the log is an event: its time (UTC), level, name and fields.\n\
         As text:  TIME LEVEL EVENT FIELD=VALUE ..., with quotes around a value if needed.\n\
         As JSON:  an object with \"time\", \"level\", \"event\" and the fields.\n\
         Warnings and errors also have a \"message\" that explains them. Fields without\n\
         a value are left out. The events, their levels, meanings and fields:\n\n",
    );
    for (event, level, fields, meaning) in EVENTS {
        let _ = write!(text, "  {event:<12} {level:<6} {meaning}\n                     {fields}\n");
    }
    text
}

//! A D-Bus method call through a dbus-daemon of our own: A calls B's method with the bytes, B's return
//! carries the answer. The messages are in [`wire`], written by hand, so that no library's cost is in the
//! figure.

pub(super) mod wire;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use self::wire::{Field, Incoming, Message};
use super::tools::{become_program, version_of};
use super::{Kind, Peer, Play, SIZES, Version};
use crate::context::Context;
use crate::failure::{Failure, OrFail, Outcome};
use crate::measure::{Measured, measure};
use crate::work::{Work, answer_in_place};

pub static DBUS: Peer = Peer {
    name: "dbus",
    kind: Kind::Forwarding,
    what: "a method call and its return, through dbus-daemon",
    sizes: SIZES,
    version: Version::Asked(|| version_of("dbus-daemon", "dbus").map(|line| short(&line))),
    play: Play::Brokered { broker, server, client },
};

pub static NAMED: Peer =
    Peer { name: "named-dbus", kind: Kind::Named, play: Play::Named { broker, server, client }, ..DBUS };

/// `D-Bus Message Bus Daemon 1.14.10` without what nobody needs.
fn short(line: &str) -> String {
    line.rsplit(' ').next().unwrap_or(line).to_string()
}

/// The socket in the private directory.
pub(super) const SOCKET: &str = "dbus";

/// The name that B owns.
const NAME: &str = "org.ringpost.Peer";

pub(super) fn broker(context: &Context) -> Outcome {
    let socket = context.path(SOCKET);
    let config = context.path("dbus.conf");
    let text = format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
         <busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow send_destination=\"*\"/><allow receive_sender=\"*\"/>\
         <allow own=\"*\"/></policy></busconfig>\n",
        socket.display()
    );
    fs::write(&config, text).or_fail("write dbus-daemon's configuration")?;
    context.ready(&socket)?;
    let mut daemon = Command::new("dbus-daemon");
    daemon.args(["--nofork", "--nopidfile"]).arg(format!("--config-file={}", config.display()));
    become_program(&mut daemon)
}

/// A connection to the daemon.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    out: Vec<u8>,
    read: Vec<u8>,
}

impl Bus {
    pub(super) fn connect(context: &Context, socket: &Path) -> Outcome<Bus> {
        let stream = context.reach(|| UnixStream::connect(socket).or_fail("connect to dbus-daemon"))?;
        let mut bus = Bus { stream, serial: 0, out: Vec::new(), read: Vec::new() };
        bus.authenticate()?;
        bus.ask_daemon("Hello", "", &[])?;
        Ok(bus)
    }

    /// The kernel tells the daemon who this is; the user's number is repeated in hexadecimal digits of its
    /// text.
    fn authenticate(&mut self) -> Outcome {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let digits: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        let hello = format!("\0AUTH EXTERNAL {digits}\r\n");
        self.stream.write_all(hello.as_bytes()).or_fail("write to dbus-daemon")?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).or_fail("read from dbus-daemon")?;
            answer.push(byte[0]);
        }
        if !answer.starts_with(b"OK ") {
            let answer = String::from_utf8_lossy(&answer);
            return Err(Failure::new(format!(
                "dbus-daemon does not let this process in: {}",
                answer.trim_end()
            )));
        }
        self.stream.write_all(b"BEGIN\r\n").or_fail("write to dbus-daemon")
    }

    /// Sends a message and returns its number.
    pub(super) fn send(&mut self, kind: Message, fields: &[Field<'_>], body: &[&[u8]]) -> Outcome<u32> {
        self.serial += 1;
        wire::write(&mut self.out, kind, self.serial, fields, body);
        self.stream.write_all(&self.out).or_fail("write to dbus-daemon")?;
        Ok(self.serial)
    }

    /// The next message of any kind.
    pub(super) fn receive<T>(&mut self, each: impl FnOnce(Incoming<'_>) -> Outcome<T>) -> Outcome<T> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(len) = wire::length(&self.read)?
                && self.read.len() >= len
            {
                let result = each(wire::read(&self.read[..len])?);
                self.read.drain(..len);
                return result;
            }
            match self.stream.read(&mut buffer).or_fail("read from dbus-daemon")? {
                0 => return Err(Failure::new("dbus-daemon closed the connection")),
                count => self.read.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Waits for the answer to a call.
    fn answer<T>(&mut self, call: u32, mut each: impl FnMut(&[u8]) -> Outcome<T>) -> Outcome<T> {
        loop {
            let answered = self.receive(|incoming| match incoming.kind {
                Message::Return if incoming.reply_to == Some(call) => each(incoming.body).map(Some),
                Message::Error if incoming.reply_to == Some(call) => Err(Failure::new(format!(
                    "a D-Bus call failed: {}",
                    incoming.error.unwrap_or("no reason")
                ))),
                _ => Ok(None),
            })?;
            if let Some(answered) = answered {
                return Ok(answered);
            }
        }
    }

    /// Calls one of the daemon's own methods.
    pub(super) fn ask_daemon(&mut self, method: &str, signature: &str, body: &[&[u8]]) -> Outcome {
        let fields = [
            Field::Path("/org/freedesktop/DBus"),
            Field::Interface("org.freedesktop.DBus"),
            Field::Member(method),
            Field::Destination("org.freedesktop.DBus"),
            Field::Signature(signature),
        ];
        let call = self.send(Message::Call, &fields, body)?;
        self.answer(call, |_| Ok(()))
    }
}

fn server(context: &Context) -> Outcome {
    let mut bus = Bus::connect(context, context.other())?;
    // A string and a number: flags, none.
    let len = (NAME.len() as u32).to_le_bytes();
    let padding = &[0; 4][..1 + (4 - (NAME.len() + 1) % 4) % 4];
    bus.ask_daemon("RequestName", "su", &[&len, NAME.as_bytes(), padding, &[0; 4]])?;
    context.ready(&context.address)?;
    let mut message = Vec::new();
    loop {
        let call = bus.receive(|incoming| {
            if incoming.kind != Message::Call {
                return Ok(None);
            }
            message.clear();
            message.extend_from_slice(wire::bytes(incoming.body)?);
            Ok(Some((incoming.serial, incoming.sender.unwrap_or_default().to_string())))
        })?;
        let Some((serial, sender)) = call else { continue };
        let last = answer_in_place(&mut message)?;
        let fields = [Field::ReplyTo(serial), Field::Destination(&sender), Field::Signature("ay")];
        bus.send(Message::Return, &fields, &[&(message.len() as u32).to_le_bytes(), &message])?;
        if last {
            return Ok(());
        }
    }
}

fn client(context: &Context) -> Outcome<Measured> {
    let mut bus = Bus::connect(context, context.other())?;
    let fields = [
        Field::Path("/"),
        Field::Interface(NAME),
        Field::Member("Answer"),
        Field::Destination(NAME),
        Field::Signature("ay"),
    ];
    let ask = |work: &mut Work| {
        let request = work.next();
        let call = bus.send(Message::Call, &fields, &[&(request.len() as u32).to_le_bytes(), request])?;
        bus.answer(call, |body| work.check(wire::bytes(body)?))
    };
    measure(ask, context.size, context.budget)
}

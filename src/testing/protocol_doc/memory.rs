//! Compares what `docs/PROTOCOL.md` says about shared memory with what the ends of channels and links do
//! there.

use super::*;

/// The channel's header by its bytes, the rest of its layout by what its ends do there.
#[test]
fn the_channel() {
    let (mut host, mut guest, segment) = smallest_channel();
    let ring_size = guest.geometry().ring_size();
    assert_eq!(bytes_of(&segment, 0, 32), example("channel"));
    let fields = layout("Channel", segment.len(), &[("R", ring_size)]);
    let start = |name: &str| fields.iter().find(|field| field.name == name).unwrap().start;
    let value = |name: &str| {
        let field = fields.iter().find(|field| field.name == name).unwrap();
        bytes_of(&segment, field.start, field.end - field.start)
    };
    assert_eq!(value("magic"), b"RINGPOST");
    assert_eq!(value("version"), LAYOUT_VERSION.to_le_bytes());
    assert_eq!(value("ring size"), (ring_size as u64).to_le_bytes());
    assert_eq!(value("largest block"), (guest.geometry().max_block() as u64).to_le_bytes());

    guest.links.set_serving(true);
    assert_eq!(value("serving"), [1, 0, 0, 0]);
    guest.links.flip(9);
    guest.links.flip(LinkWords::MOST - 1);
    let mut ended = vec![0; usize::from(LinkWords::MOST) / 8];
    (ended[1], ended[511]) = (2, 0x80);
    assert_eq!(value("ended links"), ended);

    let rings: [(&str, &mut Producer, &mut Consumer); 3] = [
        ("request", &mut guest.requests, &mut host.requests),
        ("response", &mut host.responses, &mut guest.responses),
        ("inbox", &mut host.inbox, &mut guest.inbox),
    ];
    for (name, producer, consumer) in rings {
        let control = start(&format!("control block of the {name} ring"));
        let words = table("Control block");
        let offset = |name: &str, size: usize| {
            let row = words.iter().find(|row| row[2] == name).unwrap();
            assert_eq!(number(&row[1], &[]), size);
            control + number(&row[0], &[])
        };
        producer.try_send(b"block").unwrap();
        let record = bytes_of(&segment, start(&format!("data of the {name} ring")), 13);
        assert_eq!(record, [&data_header(0, 5).to_le_bytes()[..], b"block"].concat());
        let (head, consumer_parked, producer_parked) =
            (offset("head", 8), offset("consumer parked", 4), offset("producer parked", 4));
        segment.word32(producer_parked).store(1, Ordering::Relaxed);
        receive_all(consumer);
        assert_eq!(segment.word64(head).load(Ordering::Relaxed), 64);
        assert_eq!(segment.word32(producer_parked).load(Ordering::Relaxed), 0, "woken");
        segment.word32(consumer_parked).store(1, Ordering::Relaxed);
        producer.try_send(b"block").unwrap();
        assert_eq!(segment.word32(consumer_parked).load(Ordering::Relaxed), 0, "woken");
        segment.word32(producer_parked).store(1, Ordering::Relaxed);
        consumer.give_up();
        assert_eq!(segment.word32(offset("given up", 4)).load(Ordering::Relaxed), 1);
        assert_eq!(segment.word32(producer_parked).load(Ordering::Relaxed), 0, "woken");
        if name == "inbox" {
            consumer.next_block().unwrap().unwrap().release_counted();
            assert_eq!(segment.word64(offset("taken", 8)).load(Ordering::Relaxed), 2);
        }
    }
    let unused: Vec<u8> = fields
        .iter()
        .filter(|field| field.name == "unused")
        .flat_map(|field| bytes_of(&segment, field.start, field.end - field.start))
        .collect();
    assert_eq!(unused, vec![0; unused.len()]);
    assert_eq!(value("closed"), [0; 4]);
    host.closer.close_as(CloseReason::Died);
    assert_eq!(value("closed"), (CloseReason::Died as u32).to_le_bytes());
}

#[test]
fn the_figures_of_a_client() {
    let (host, guest, segment) = smallest_channel();
    let fields = layout("Figures of a client", 4096, &[]);
    let bytes = |name: &str| {
        let field = fields.iter().find(|field| field.name == name).unwrap();
        bytes_of(&segment, 4096 + field.start, field.end - field.start)
    };
    let value = |name: &str| u64::from_le_bytes(bytes(name).try_into().unwrap());
    host.figures.set_stamps(16);
    assert_eq!(bytes("stamps"), 16_u32.to_le_bytes());
    guest.figures.add_samples(Samples {
        taken: 1,
        taken_bytes: 2,
        missed: 3,
        published: 4,
        published_bytes: 5,
    });
    let names = ["samples taken", "bytes taken", "samples missed", "samples published", "bytes published"];
    assert_eq!(names.map(value), [1, 2, 3, 4, 5]);
    let histograms =
        [(Durations::OwnWakes, "wakes of the client"), (Durations::LinkService, "service of links")];
    for (which, name) in histograms {
        let last = Histogram::BUCKETS - 1;
        for nanos in [79, 80, 95, 96, u64::MAX] {
            guest.figures.count(which, Duration::from_nanos(nanos));
        }
        let mut counts = [0_u64; Histogram::BUCKETS];
        (counts[0], counts[1], counts[2], counts[last]) = (1, 2, 1, 1);
        assert_eq!(bytes(name), counts.map(u64::to_le_bytes).concat());
        let ends: Vec<Duration> = Histogram::of(counts).buckets().map(|(end, _)| end).collect();
        assert_eq!(ends, [80, 96, 112, 1 << 36].map(Duration::from_nanos));
    }
    assert_eq!(Histogram::BUCKETS, 120);
    guest.figures.set_link(FiguresPage::LINKS - 1, LinkCounts { blocks: 6, bytes: 7 });
    let counts = bytes("counts of links");
    assert_eq!(counts[counts.len() - 16..], [6_u64, 7].map(u64::to_le_bytes).concat());
    assert!(counts[..counts.len() - 16].iter().all(|byte| *byte == 0));
    assert_eq!(usize::from(FiguresPage::LINKS), 120);
    for field in fields.iter().filter(|field| field.name == "unused") {
        let bytes = bytes_of(&segment, 4096 + field.start, field.end - field.start);
        assert!(bytes.iter().all(|byte| *byte == 0), "{field:?}");
    }
}

#[test]
fn a_segment_of_a_link() {
    let geometry = Geometry::new(4096).unwrap();
    let descriptor = channel::create_link(&geometry).unwrap();
    let open = |side| channel::open_link(&descriptor, &geometry, WaitStrategy::Park, side).unwrap();
    let (mut caller, mut callee) = (open(Side::Caller), open(Side::Callee));
    let segment = Segment::open(&descriptor).unwrap();
    let fields = layout("A link's segment", segment.len(), &[("R", geometry.ring_size())]);
    let start = |name: &str| fields.iter().find(|field| field.name == name).unwrap().start;
    let rings = [
        ("request", &mut caller.producer, &mut callee.consumer),
        ("response", &mut callee.producer, &mut caller.consumer),
    ];
    for (name, producer, consumer) in rings {
        producer.try_send(b"block").unwrap();
        receive_all(consumer);
        let data = bytes_of(&segment, start(&format!("data of the {name} ring")), 8);
        assert_eq!(data, data_header(0, 5).to_le_bytes());
        let control = start(&format!("control block of the {name} ring"));
        assert_eq!(segment.word64(control).load(Ordering::Relaxed), 64, "the head");
    }
    caller.closer.close();
    for field in fields.iter().filter(|field| ["unused", "closed"].contains(&field.name.as_str())) {
        let mut bytes = vec![0; field.end - field.start];
        bytes[0] = if field.name == "closed" { 2 } else { 0 };
        assert_eq!(bytes_of(&segment, field.start, bytes.len()), bytes, "{field:?}");
    }
}

#[test]
fn records() {
    let (position, len) = ((u64::from(u32::MAX) + 7) * 64, 0x8765_4321_usize);
    let rows: Vec<String> = bits("Record header", 64).into_iter().map(|(_, _, name)| name).collect();
    assert_eq!(rows, ["length", "kind", "line"]);
    let fields =
        |word: u64| ["length", "kind", "line"].map(|name| field_of(word.into(), 64, "Record header", name));
    let kinds: Vec<u128> = table("Kinds of records").iter().map(|row| row[0].parse().unwrap()).collect();
    let line = u128::from(position / 64 % (1 << 30));
    assert_eq!(fields(data_header(position, len)), [len as u128, kinds[0], line]);
    assert_eq!(fields(padding_header(position, 192)), [192 - 8, kinds[1], line]);
    assert_eq!(fields(gap_header(position)), [8, kinds[2], line]);
    assert_eq!(kinds.len(), 3);
}

#[test]
fn bytes_of_a_ring() {
    const PING: u16 = Operation::Ping as u16;
    const DATA: usize = 8192;
    let (mut host, mut guest, segment) = smallest_channel();
    for sequence in 0..2 {
        guest.requests.try_send(&block(PING, 0, sequence, &[])).unwrap();
    }
    let records = example("records");
    assert_eq!(bytes_of(&segment, DATA, records.len()), records);
    for sequence in 2..60 {
        guest.requests.try_send(&block(PING, 0, sequence, &[])).unwrap();
    }
    receive_all(&mut host.requests);
    guest.requests.try_send(&[0; 300]).unwrap();
    let headers = [DATA + 3840, DATA].map(|at| bytes_of(&segment, at, 8)).concat();
    assert_eq!(headers, example("padding"));
    receive_all(&mut host.requests);
    assert_eq!(segment.word64(256).load(Ordering::Relaxed), 4416);
}

//! Samples written and read in place, also by who was given their address.

use std::io::Write;

use super::*;

/// What somebody writes who was given this address.
fn write_at(stage: &Stage, address: *const u8, bytes: &[u8]) {
    stage.view.copy_in(address.addr() - stage.view.as_ptr().addr(), bytes);
}

/// What somebody reads there.
fn read_at(stage: &Stage, address: *const u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stage.view.copy_out(address.addr() - stage.view.as_ptr().addr(), &mut bytes);
    bytes
}

/// Whether any byte of the ring is this one.
fn holds(stage: &Stage, byte: u8) -> bool {
    let mut ring = vec![0; stage.shape.ring_size()];
    stage.view.copy_out(4096, &mut ring);
    ring.contains(&byte)
}

#[test]
fn a_grant_publishes_what_was_written_or_leaves_nothing() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Lossy);
    for round in 0..40 {
        let mut grant = writer.grant(900, Deadline::NEVER).unwrap();
        grant.write_all(&[0xAA; 900]).unwrap();
        assert_eq!(grant.remaining(), 0);
        assert!(grant.write_all(b"x").is_err());
        drop(grant);
        let mut memory = vec![0; stage.shape.ring_size()];
        stage.view.copy_out(4096, &mut memory);
        assert!(!memory.contains(&0xAA), "what was not published cannot be read");
        assert_eq!(take(&mut reader), None);
        let mut grant = writer.grant(900, Deadline::NEVER).unwrap();
        grant.write_all(b"half").unwrap();
        grant.commit();
        assert_eq!(take(&mut reader), Some((Taken { sequence: round, missed: 0 }, b"half".to_vec())));
    }
    assert!(matches!(writer.grant(1017, Deadline::NEVER), Err(Unsent::TooLarge)));
}

#[test]
fn a_view_tells_whether_it_was_overwritten() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Lossy);
    writer.send(&numbered(0, 500), Deadline::NEVER).unwrap();
    writer.send(&numbered(1, 500), Deadline::NEVER).unwrap();
    let view = reader.try_view().unwrap().unwrap();
    let mut bytes = [0; 100];
    assert_eq!((view.len(), view.copy_out(400, &mut bytes)), (500, Ok(())));
    assert_eq!(bytes, [0; 100]);
    (2..20).for_each(|number| writer.send(&numbered(number, 500), Deadline::NEVER).unwrap());
    assert_eq!((view.copy_out(0, &mut bytes), view.check()), (Err(Overwritten), Err(Overwritten)));
    drop(view);
    let (taken, sample) = take(&mut reader).unwrap();
    assert_eq!((taken.sequence - taken.missed, sample), (1, numbered(taken.sequence, 500)));
}

#[test]
fn what_is_written_at_an_address_is_published_as_far_as_it_is_said_to_be() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Lossy);
    // Over the end of the ring several times, behind padding and without.
    for round in 0..200_usize {
        let (room, said) = (round * 37 % 1017, round * 37 % 1017 * (round % 5) / 4);
        let mut grant = writer.grant(room, Deadline::NEVER).unwrap();
        let address = grant.address();
        assert!(address.cast::<u64>().is_aligned());
        write_at(&stage, address, &vec![0xAA; room]);
        grant.advance(said / 2);
        assert_eq!((grant.address(), grant.remaining()), (address.wrapping_add(said / 2), room - said / 2));
        grant.advance(said - said / 2);
        if round % 3 == 0 {
            drop(grant);
            assert!(!holds(&stage, 0xAA), "{round}: what was not published cannot be read");
            continue;
        }
        grant.commit();
        let view = reader.try_view().unwrap().unwrap();
        assert_eq!((view.len(), view.address()), (said, address.cast_const()));
        assert_eq!(read_at(&stage, view.address(), said), vec![0xAA; said]);
        assert_eq!(view.check(), Ok(()));
        drop(view);
        // Only what is in the sample itself is there.
        write_at(&stage, address, &vec![0; said]);
        assert!(!holds(&stage, 0xAA), "{round}: the rest of the room cannot be read");
    }
}

/// A grant that nobody has the address of leaves the rest of its room alone: that would cost time.
#[test]
fn an_address_is_paid_for_by_who_asks_for_it() {
    let stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    stage.view.copy_in(4096 + 200, &[0xAA]);
    writer.grant(900, Deadline::NEVER).unwrap().commit();
    assert!(holds(&stage, 0xAA));
}

#[test]
fn a_mixture_of_writes_and_an_address_is_one_sample() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Lossy);
    let mut grant = writer.grant(9, Deadline::NEVER).unwrap();
    grant.write_all(b"one").unwrap();
    write_at(&stage, grant.address(), b"two");
    grant.advance(3);
    assert_eq!(grant.write(b"six and more").unwrap(), 3);
    grant.commit();
    assert_eq!(take(&mut reader).unwrap().1, b"onetwosix");
}

#[test]
#[should_panic(expected = "3 bytes cannot have been written: the grant has room for 2 more")]
fn more_than_the_room_cannot_have_been_written() {
    let stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut grant = writer.grant(7, Deadline::NEVER).unwrap();
    grant.advance(5);
    grant.advance(3);
}

#[test]
fn an_address_of_a_sample_that_is_overwritten_stays_readable() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Lossy);
    writer.send(&numbered(0, 500), Deadline::NEVER).unwrap();
    let view = reader.try_view().unwrap().unwrap();
    assert_eq!((read_at(&stage, view.address(), 500), view.check()), (numbered(0, 500), Ok(())));
    (1..20).for_each(|number| writer.send(&numbered(number, 500), Deadline::NEVER).unwrap());
    assert_ne!(read_at(&stage, view.address(), 500), numbered(0, 500));
    assert_eq!([view.check(), view.check()], [Err(Overwritten); 2]);
}

#[test]
fn a_view_that_is_left_took_nothing() {
    let mut stage = Stage::new(4096, None);
    let mut writer = stage.writer();
    let mut reader = stage.reader(Start::Now, Policy::Lossy);
    writer.send(&numbered(0, 500), Deadline::NEVER).unwrap();
    reader.try_view().unwrap().unwrap().leave();
    assert_eq!(take(&mut reader).unwrap().0, Taken { sequence: 0, missed: 0 });
}

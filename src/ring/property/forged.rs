//! Forged headers and heads: each is accepted exactly if an honest side could have written it.

use super::*;

proptest! {
    // 1,536, or six times as many as PROPTEST_CASES says.
    #![proptest_config(ProptestConfig {
        cases: 6 * ProptestConfig::default().cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A header with any kind, length and line number is accepted exactly if it is valid. Nothing outside the
    /// ring is accessed.
    #[test]
    fn a_forged_header_is_taken_only_if_it_could_be_honest(
        shape in any_shape(),
        offset in 0..64u64,
        len in prop_oneof![0..70u64, 0..5000u64, any::<u32>().prop_map(u64::from)],
        len_as in 0..4,
        kind in 0..4u64,
        lines_off in prop_oneof![4 => Just(0u64), 1 => any::<u64>(), 1 => Just(1), 1 => Just((1 << 30) - 1)],
    ) {
        let capacity = shape.capacity as u64;
        let position = shape.start + offset % (capacity / 64) * 64;
        let until_end = capacity - position % capacity;
        let len = match len_as {
            0 => len,
            1 => until_end - HEADER as u64,
            2 => until_end - HEADER as u64 + len % 3,
            _ => (shape.max_block as u64 + len % 3).saturating_sub(1),
        } & 0xffff_ffff;
        let line = (position / 64).wrapping_add(lines_off) % (1 << 30);
        let word = line << 34 | kind << 32 | len;
        let right_place = line == position / 64 % (1 << 30);
        let expected = match kind {
            _ if !right_place => Err(Violation::HeaderPosition),
            1 if len > shape.max_block as u64 => Err(Violation::BlockLength),
            1 if (len + 8).div_ceil(64) * 64 > until_end => Err(Violation::BlockBounds),
            1 => Ok(Header::Data(len as usize)),
            2 if until_end != capacity && len + 8 == until_end => Ok(Header::Padding),
            2 => Err(Violation::Padding),
            _ => Err(Violation::HeaderKind),
        };
        prop_assert_eq!(layout::check(word, position, shape.capacity, shape.max_block), expected);

        let setup = Setup { start: position, ..setup(&shape) };
        setup.view.word64(setup.data + (position % capacity) as usize).store(word, Ordering::Relaxed);
        let mut consumer = Consumer::new(&setup);
        let mut into = Vec::new();
        let got = consumer.try_recv(&mut into);
        match expected {
            _ if word == 0 => prop_assert_eq!(got, Ok(None)),
            Ok(Header::Data(len)) => prop_assert_eq!(got, Ok(Some(len))),
            Ok(Header::Padding) => prop_assert_eq!(got, Ok(None)),
            Err(violation) => {
                for _ in 0..2 {
                    prop_assert_eq!(consumer.try_recv(&mut into), Err(RecvError::Violation(violation)));
                }
                prop_assert_eq!(consumer.closer().reason(), Some(CloseReason::FAULT));
                // The end stays poisoned whatever the other side writes now.
                for word in [0, data_header(position, 0)] {
                    let offset = setup.data + (position % capacity) as usize;
                    setup.view.word64(offset).store(word, Ordering::Relaxed);
                    prop_assert_eq!(consumer.try_recv(&mut into), Err(RecvError::Violation(violation)));
                }
            }
        }
    }

    /// A head is accepted exactly if it is a multiple of a line between the last head seen and the committed
    /// tail.
    #[test]
    fn a_forged_head_is_believed_only_if_it_could_be_honest(
        shape in any_shape(),
        given_back in 0..3usize,
        head in prop_oneof![any::<u64>().prop_map(Err), (-5..70i64, -1..2i64).prop_map(Ok)],
    ) {
        let setup = setup(&shape);
        let (mut producer, mut consumer) = (Producer::new(&setup), Consumer::new(&setup));
        let mut into = Vec::new();
        let mut tail = shape.start;
        let mut last = shape.start;
        // Fill the ring, give some blocks back, let the producer see that, and fill it again.
        for _ in 0..=given_back {
            while producer.try_send(&[]).is_ok() {
                tail += 64;
            }
            last = setup.view.word64(HEAD).load(Ordering::Relaxed);
            consumer.try_recv(&mut into).unwrap().unwrap();
        }
        let head = match head {
            Err(word) => word,
            Ok((lines, bytes)) => last.wrapping_add_signed(lines * 64 + bytes),
        };
        setup.view.word64(HEAD).store(head, Ordering::Relaxed);
        let honest = head % 64 == 0 && (last..=tail).contains(&head);
        let answer = producer.try_send(&[]);
        if !honest {
            for _ in 0..2 {
                let broken = Err(SendError::Violation(Violation::Head));
                prop_assert_eq!(producer.try_send(&[]), broken);
            }
            prop_assert_eq!(answer, Err(SendError::Violation(Violation::Head)));
            prop_assert_eq!(producer.closer().reason(), Some(CloseReason::FAULT));
        } else if head == last {
            prop_assert_eq!(answer, Err(SendError::Full));
        } else {
            prop_assert_eq!(answer, Ok(()));
        }
    }

    /// Headers made by the producer's own functions are decoded correctly, and are rejected at every other
    /// position.
    #[test]
    fn headers_read_back(shape in any_shape(), offset in 0..64u64, len in 0..4096usize, elsewhere in 1..1u64 << 30) {
        let capacity = shape.capacity as u64;
        let position = shape.start + offset % (capacity / 64) * 64;
        let rest = capacity - position % capacity;
        let len = len % (shape.max_block + 1);
        let check = |word, position| layout::check(word, position, shape.capacity, shape.max_block);
        let word = data_header(position, len);
        if record_size(len) <= rest {
            prop_assert_eq!(check(word, position), Ok(Header::Data(len)));
        }
        prop_assert_eq!(check(word, position + elsewhere * 64), Err(Violation::HeaderPosition));
        if rest < capacity {
            let word = padding_header(position, rest);
            prop_assert_eq!(check(word, position), Ok(Header::Padding));
            prop_assert_eq!(check(word, position + elsewhere * 64), Err(Violation::HeaderPosition));
        }
    }
}

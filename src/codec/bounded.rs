//! Limits the memory and the nesting depth of decoded values.
//!
//! A few bytes can encode a large value: an empty `Option<Large>` is one byte, but as large in memory as a
//! full one. So bytes from another process are decoded by a deserializer around postcard's, which counts
//! memory:
//!
//! - Each element of a sequence and each pair of a map costs the size of its type, and at least
//!   [`LEAST_ELEMENT`], so that even elements without bytes are limited.
//! - A value that is larger than the memory already paid for its place (for example behind a `Box`) costs its
//!   size. The parts of a paid value cost nothing more.
//! - Sequences do not announce their length, so that no memory is reserved for elements that never come.
//! - Options, sequences, maps and enums can be nested at most [`MOST_DEPTH`] deep. Every recursive type
//!   contains one of these.
//! - A value that does not fit into its place is built on the stack, and stays there while its parts are
//!   decoded. Such values inside an outermost one have at most [`MOST_NESTED`] bytes at a time. The outermost
//!   one may be larger, because its type determines that, not the sender.
//!
//! Texts and byte strings cost nothing, because all their bytes were received. The overhead of the allocator
//! and of growing vectors (a small multiple) is not counted, nor is what a type's own `Deserialize`
//! allocates.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// The least cost of an element.
const LEAST_ELEMENT: usize = 8;

/// The largest nesting depth.
pub(super) const MOST_DEPTH: usize = 128;

/// The most bytes of nested values on the stack, of which a worker has 2 MiB. Decoding may copy each value
/// several times before it is in its place.
const MOST_NESTED: usize = 64 << 10;

/// The memory allowed per encoded byte, and the least total.
const PER_BYTE: usize = 16;
const LEAST_BUDGET: usize = 4 << 20;

/// Which limit a value exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exceeded {
    Memory,
    Depth,
}

/// The remaining limits of one decoding.
#[derive(Debug)]
pub(super) struct Budget {
    most: usize,
    left: Cell<usize>,
    depth: Cell<usize>,
    /// The memory paid for the place of the current value that its decoded parts have not used.
    place: Cell<usize>,
    /// The bytes of the values under construction inside the outermost one on the stack; `None` outside of
    /// it.
    nested: Cell<Option<usize>>,
    exceeded: Cell<Option<Exceeded>>,
}

impl Budget {
    /// The budget for a value with this many encoded bytes.
    pub(super) fn for_bytes(bytes: usize) -> Budget {
        let most = bytes.saturating_mul(PER_BYTE).max(LEAST_BUDGET);
        Budget {
            most,
            left: Cell::new(most),
            depth: Cell::new(0),
            // The caller provides the place of the value itself.
            place: Cell::new(usize::MAX),
            nested: Cell::new(None),
            exceeded: Cell::new(None),
        }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn exceeded(&self) -> Option<Exceeded> {
        self.exceeded.get()
    }

    fn pay<E: Error>(&self, bytes: usize) -> Result<(), E> {
        match self.left.get().checked_sub(bytes) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                self.exceeded.set(Some(Exceeded::Memory));
                Err(E::custom("too much memory"))
            }
        }
    }

    /// Pays for an element's place, and decodes it.
    fn element<R, E: Error>(&self, bytes: usize, decode: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
        self.pay(bytes.max(LEAST_ELEMENT))?;
        self.nested(bytes, || self.within(bytes, decode))
    }

    /// Decodes a value on the stack that will move to its own place.
    fn nested<R, E: Error>(&self, bytes: usize, decode: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
        let around = self.nested.get();
        // The outermost value does not count: there is only one, and its type determines its size.
        let nested = around.map_or(0, |around| around + bytes);
        if nested > MOST_NESTED {
            self.exceeded.set(Some(Exceeded::Depth));
            return Err(E::custom("too deep"));
        }
        self.nested.set(Some(nested));
        let decoded = decode();
        self.nested.set(around);
        decoded
    }

    /// Decodes a part of a value, whose place has this many bytes.
    fn within<R>(&self, place: usize, decode: impl FnOnce() -> R) -> R {
        let outer = self.place.replace(place);
        let decoded = decode();
        self.place.set(outer);
        decoded
    }

    /// Decodes a value of this size, in its place if it fits there.
    fn value<R, E: Error>(&self, bytes: usize, decode: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
        if bytes <= self.place.get() {
            return self.within(bytes, decode);
        }
        self.pay(bytes)?;
        self.nested(bytes, || self.within(bytes, decode))
    }

    /// Like [`value`](Self::value), and counts a level of nesting.
    fn level<R, E: Error>(&self, bytes: usize, decode: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
        let depth = self.depth.get();
        if depth == MOST_DEPTH {
            self.exceeded.set(Some(Exceeded::Depth));
            return Err(E::custom("too deep"));
        }
        self.depth.set(depth + 1);
        let decoded = self.value(bytes, decode);
        self.depth.set(depth);
        decoded
    }
}

/// A wrapped deserializer or visitor, with the budget.
pub(super) struct Counted<'b, T> {
    inner: T,
    budget: &'b Budget,
    /// Whether elements have their own places outside of the value.
    elements_cost: bool,
}

impl<'b, T> Counted<'b, T> {
    pub(super) fn new(inner: T, budget: &'b Budget) -> Counted<'b, T> {
        Counted { inner, budget, elements_cost: false }
    }

    fn costly(inner: T, budget: &'b Budget) -> Counted<'b, T> {
        Counted { inner, budget, elements_cost: true }
    }
}

macro_rules! forward {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(Counted::new(visitor, self.budget))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Counted<'_, D> {
    type Error = D::Error;

    // Values of a few bytes each, and texts.
    forward! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Counted { inner, budget, .. } = self;
        budget.level(size_of::<V::Value>(), || inner.deserialize_option(Counted::new(visitor, budget)))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Counted { inner, budget, .. } = self;
        budget.level(size_of::<V::Value>(), || inner.deserialize_seq(Counted::costly(visitor, budget)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Counted { inner, budget, .. } = self;
        budget.level(size_of::<V::Value>(), || inner.deserialize_map(Counted::costly(visitor, budget)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Counted { inner, budget, .. } = self;
        budget.level(size_of::<V::Value>(), || {
            inner.deserialize_enum(name, variants, Counted::new(visitor, budget))
        })
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, Counted::new(visitor, self.budget))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Counted { inner, budget, .. } = self;
        budget.value(size_of::<V::Value>(), || {
            inner.deserialize_newtype_struct(name, Counted::new(visitor, budget))
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let Counted { inner, budget, .. } = self;
        budget.value(size_of::<V::Value>(), || inner.deserialize_tuple(len, Counted::new(visitor, budget)))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Counted { inner, budget, .. } = self;
        budget.value(size_of::<V::Value>(), || {
            inner.deserialize_tuple_struct(name, len, Counted::new(visitor, budget))
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Counted { inner, budget, .. } = self;
        budget.value(size_of::<V::Value>(), || {
            inner.deserialize_struct(name, fields, Counted::new(visitor, budget))
        })
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! forward_visits {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Counted<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    forward_visits! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128,
        visit_f32: f32, visit_f64: f64, visit_char: char,
        visit_str: &str, visit_borrowed_str: &'de str, visit_string: String,
        visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Counted::new(inner, self.budget))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Counted::new(inner, self.budget))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Counted { inner: visitor, budget, elements_cost } = self;
        visitor.visit_seq(Counted { inner, budget, elements_cost })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Counted { inner: visitor, budget, elements_cost } = self;
        visitor.visit_map(Counted { inner, budget, elements_cost })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(Counted::new(inner, self.budget))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Counted<'_, S> {
    type Value = S::Value;

    /// Called only if there is an element, so that the end of a sequence costs nothing.
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let Counted { inner: seed, budget, elements_cost } = self;
        let bytes = size_of::<S::Value>();
        let decode = || seed.deserialize(Counted::new(inner, budget));
        if elements_cost { budget.element(bytes, decode) } else { budget.within(bytes, decode) }
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        let Counted { inner, budget, elements_cost } = self;
        inner.next_element_seed(Counted { inner: seed, budget, elements_cost: *elements_cost })
    }

    fn size_hint(&self) -> Option<usize> {
        if self.elements_cost { None } else { self.inner.size_hint() }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Counted { inner, budget, .. } = self;
        inner.next_key_seed(Counted::costly(seed, budget))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let Counted { inner, budget, .. } = self;
        inner.next_value_seed(Counted::costly(seed, budget))
    }
}

impl<'b, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Counted<'b, A> {
    type Error = A::Error;
    type Variant = Counted<'b, A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let (value, variant) = self.inner.variant_seed(Counted::new(seed, self.budget))?;
        Ok((value, Counted::new(variant, self.budget)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.newtype_variant_seed(Counted::new(seed, self.budget))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.inner.tuple_variant(len, Counted::new(visitor, self.budget))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.inner.struct_variant(fields, Counted::new(visitor, self.budget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PayloadError;
    use crate::codec::{decode, encode};
    use serde::{Deserialize, Serialize};
    use std::collections::{BTreeMap, HashMap, LinkedList};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// 8 KiB, of which none is sent if it is not there.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Large {
        parts: [[Option<[u64; 16]>; 8]; 8],
    }

    impl Large {
        fn empty() -> Large {
            Large { parts: [[None; 8]; 8] }
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct List {
        next: Option<Box<List>>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Node(Vec<Tree>),
    }

    fn too_large<'b, T: Deserialize<'b> + std::fmt::Debug>(bytes: &'b [u8]) {
        let error = decode::<T>(bytes).unwrap_err();
        assert!(
            matches!(error, PayloadError::TooLarge { most, .. } if most <= LEAST_BUDGET.max(16 * bytes.len())),
            "{error}"
        );
        assert!(error.to_string().contains("send less at once"), "{error}");
    }

    /// So many elements, each of these bytes.
    fn many(count: usize, element: &[u8]) -> Vec<u8> {
        let mut bytes = encode(&count, 10).unwrap();
        bytes.extend(element.repeat(count));
        bytes
    }

    #[test]
    fn few_bytes_do_not_become_a_large_value() {
        let none = many(130_000, &[0]);
        too_large::<Vec<Option<Large>>>(&none);
        too_large::<LinkedList<Option<Large>>>(&none);
        too_large::<Box<[Option<Large>]>>(&none);
        too_large::<(u64, Vec<Option<Large>>)>(&[&[1], &none[..]].concat());
        too_large::<Vec<Result<Box<Large>, Large>>>(&many(2_000, &[&[0][..], &[0; 64]].concat()));
        // Behind a pointer, in a vector of pointers.
        too_large::<Vec<Box<Large>>>(&many(2_000, &[0; 64]));
        too_large::<Vec<Option<Box<Large>>>>(&many(2_000, &[&[1][..], &[0; 64]].concat()));
        // Keys and values.
        let pairs: Vec<u8> =
            (0..2_000_u16).flat_map(|key| [encode(&key, 3).unwrap(), vec![0; 1]].concat()).collect();
        let pairs = [encode(&2_000, 5).unwrap(), pairs].concat();
        too_large::<BTreeMap<u16, Option<Large>>>(&pairs);
        too_large::<HashMap<u16, Option<Large>>>(&pairs);
    }

    /// Without any bytes, in as many elements as a number can say; and a length that nothing follows.
    #[test]
    fn lengths_that_nothing_stands_behind_end() {
        let endless = encode(&u64::MAX, 10).unwrap();
        too_large::<Vec<()>>(&endless);
        too_large::<LinkedList<()>>(&endless);
        too_large::<Vec<[u64; 0]>>(&endless);
        assert!(matches!(decode::<Vec<u64>>(&endless), Err(PayloadError::Decode { .. })));
        assert!(matches!(decode::<Vec<Large>>(&endless), Err(PayloadError::Decode { .. })));
        assert!(matches!(decode::<String>(&endless), Err(PayloadError::Decode { .. })));
        assert_eq!(decode::<Vec<()>>(&[100]).unwrap().len(), 100);
    }

    /// No room is made for what does not come, as deep as it may be.
    #[test]
    fn announced_lengths_take_no_memory() {
        static ROOM: AtomicUsize = AtomicUsize::new(0);
        #[derive(Debug)]
        struct Watched;
        impl<'de> Deserialize<'de> for Watched {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Watched, D::Error> {
                struct Counting;
                impl<'de> Visitor<'de> for Counting {
                    type Value = Watched;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a sequence")
                    }
                    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Watched, A::Error> {
                        ROOM.fetch_max(elements.size_hint().unwrap_or(0), Ordering::Relaxed);
                        Ok(Watched)
                    }
                }
                deserializer.deserialize_seq(Counting)
            }
        }
        decode::<Watched>(&encode(&u64::MAX, 10).unwrap()).unwrap();
        assert_eq!(ROOM.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn depth_is_bounded() {
        let too_deep = |error: PayloadError| {
            assert!(matches!(error, PayloadError::TooDeep { most: MOST_DEPTH, .. }), "{error}");
            assert!(error.to_string().contains("send a flat form"), "{error}");
        };
        for deep in [MOST_DEPTH, 100_000] {
            too_deep(decode::<List>(&vec![1; deep + 1]).unwrap_err());
            too_deep(decode::<Tree>(&[1, 1].repeat(deep)).unwrap_err());
        }
        let mut bytes = vec![1; MOST_DEPTH - 1];
        bytes.push(0);
        let mut list = &decode::<List>(&bytes).unwrap();
        let mut length = 1;
        while let Some(next) = &list.next {
            (list, length) = (next, length + 1);
        }
        assert_eq!(length, MOST_DEPTH);
        assert_eq!(
            decode::<Tree>(&[1, 2, 0, 1, 0]).unwrap(),
            Tree::Node(vec![Tree::Leaf, Tree::Node(vec![])])
        );
    }

    /// Large, and behind a pointer within itself.
    #[derive(Debug, Serialize, Deserialize)]
    struct Heavy {
        parts: [Option<Large>; 4],
        next: Option<Box<Heavy>>,
    }

    /// Each level of a value that contains itself lies on the stack while it is decoded.
    #[test]
    fn the_stack_is_bounded_however_large_a_level_is() {
        for level in 1..MOST_DEPTH {
            // None of the parts, and one more.
            let mut bytes = [0, 0, 0, 0, 1].repeat(level);
            bytes.extend([0; 5]);
            if decode::<Heavy>(&bytes).is_err() {
                assert!(level > 2, "{level}");
                return;
            }
        }
        panic!("no bound");
    }

    /// What fills a block of the default size, in the forms that take the most for their bytes.
    #[test]
    fn ordinary_values_are_within_the_bounds() {
        let max = 130_000;
        fn there_and_back<T: Serialize + for<'a> Deserialize<'a> + PartialEq>(value: &T, max: usize) {
            let bytes = encode(value, max).unwrap();
            let read: T = decode(&bytes).unwrap_or_else(|error| panic!("{error}"));
            assert!(read == *value);
        }
        there_and_back(&vec![0_u64; max - 3], max);
        there_and_back(&vec![0_u8; max - 3], max);
        there_and_back(&vec![String::new(); max - 3], max);
        there_and_back(&vec![(String::new(), Some(0_u64), 1.5_f64); max / 11], max);
        there_and_back(&vec![Vec::<Large>::new(); max - 3], max);
        there_and_back(&vec![Large::empty(); 400], max);
        there_and_back(&(0..30_000_u32).map(|n| (n, n)).collect::<HashMap<_, _>>(), max + max);
        there_and_back(&vec![Some(Box::new(7_u8)); max / 2 - 3], max);
        there_and_back(&Box::new(Large::empty()), max);
        there_and_back(&vec![vec![Large::empty(); 20]; 20], max);
        there_and_back(&vec![([Large::empty(), Large::empty()], vec![vec![1_u8; 5]; 5]); 10], max);
        there_and_back(&vec![vec![vec![1_u8; 3]; 100]; 100], max);
    }
}

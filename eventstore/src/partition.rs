//! How a consumer's work is divided: every stream belongs to one of 64 partitions, for ever.
//!
//! The partition of a stream is its hash modulo 64, and the hash is FNV-1a with 64 bits
//! (<http://www.isthe.com/chongo/tech/comp/fnv/>) over the UTF-8 bytes of the stream's name. Both
//! are part of what is stored: another hash would send a stream's events past its checkpoint.

use std::fmt;

use crate::StreamName;

/// How many partitions a consumer has.
pub const PARTITIONS: usize = 64;

/// A hash of a stream's name, the same on every machine and in every version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamHash(u64);

impl StreamHash {
    /// The hash of `stream`: FNV-1a, 64 bits, over the name's UTF-8 bytes.
    pub fn of(stream: &StreamName) -> Self {
        const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let bytes = stream.as_str().bytes();
        Self(bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)))
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The partition that the stream belongs to.
    pub const fn partition(self) -> Partition {
        Partition((self.0 % PARTITIONS as u64) as u8)
    }
}

/// One of a consumer's 64 shares of the streams: 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(u8);

impl Partition {
    /// The first partition. An exclusive consumer has this one alone, and all streams in it.
    pub const FIRST: Self = Self(0);

    /// A partition by its number, if it is below 64.
    pub const fn new(partition: u8) -> Option<Self> {
        if (partition as usize) < PARTITIONS { Some(Self(partition)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Some of the 64 partitions: one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartitionSet(u64);

impl PartitionSet {
    /// All 64.
    pub const ALL: Self = Self(u64::MAX);
    /// None of them.
    pub const EMPTY: Self = Self(0);

    /// Whether `partition` is among them.
    pub const fn contains(self, partition: Partition) -> bool {
        self.0 & (1 << partition.0) != 0
    }

    /// Adds `partition`.
    pub const fn insert(&mut self, partition: Partition) {
        self.0 |= 1 << partition.0;
    }

    /// Takes `partition` out.
    pub const fn remove(&mut self, partition: Partition) {
        self.0 &= !(1 << partition.0);
    }

    /// Those of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// How many there are.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, from the lowest.
    pub fn iter(self) -> impl Iterator<Item = Partition> {
        (0..PARTITIONS as u8).map(Partition).filter(move |partition| self.contains(*partition))
    }
}

impl Default for PartitionSet {
    /// [`Self::ALL`].
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<Partition> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = Partition>>(partitions: I) -> Self {
        let mut set = Self::EMPTY;
        for partition in partitions {
            set.insert(partition);
        }
        set
    }
}

impl fmt::Debug for PartitionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("all"),
            some => f.debug_set().entries(some.iter().map(Partition::get)).finish(),
        }
    }
}

/// Who may hold a consumer at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// One session, with all streams.
    Exclusive,
    /// Several sessions, each with some of the 64 partitions.
    Group,
}

impl Sharing {
    /// The partition that a stream belongs to in a consumer that is shared like this.
    pub const fn partition(self, stream: StreamHash) -> Partition {
        match self {
            Self::Exclusive => Partition::FIRST,
            Self::Group => stream.partition(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // The first two are among the reference's own test vectors; the others were computed by
        // another program.
        for (name, hash) in [
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
            ("order-42", 0x7d1d_eb86_a056_62d4),
            ("\u{f6}l-1", 0x0ff8_804a_8196_4272),
        ] {
            let stream = StreamName::new(name).expect("a good name");
            assert_eq!(StreamHash::of(&stream).get(), hash, "{name}");
            assert_eq!(u64::from(StreamHash::of(&stream).partition().get()), hash % 64, "{name}");
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = PartitionSet::EMPTY;
        assert!(set.is_empty() && Partition::new(64).is_none());
        for number in [63, 0, 7] {
            set.insert(Partition::new(number).expect("below 64"));
        }
        assert_eq!(set.iter().map(Partition::get).collect::<Vec<_>>(), [0, 7, 63]);
        assert_eq!((set.len(), PartitionSet::ALL.len()), (3, 64));
        set.remove(Partition::FIRST);
        assert!(!set.contains(Partition::FIRST));
        assert_eq!(set.union(PartitionSet::ALL), PartitionSet::ALL);
        assert_eq!(set, set.iter().collect());
        assert_eq!(format!("{set:?} {:?}", PartitionSet::ALL), "{7, 63} all");
    }
}

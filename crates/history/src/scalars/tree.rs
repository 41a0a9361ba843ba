//! Where the summary of a group of blocks lies in the index: each group's right behind that of its last block, so that the index is only
//! ever appended to. Groups of level 1 have 16 blocks, of level 2 256, and so on.

/// How many make a group.
pub const GROUP: u64 = 16;

/// A group of blocks: a block itself at level 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Its level.
    pub level: u32,
    /// Its number among those of its level.
    pub number: u64,
}

impl Group {
    /// How many blocks it has.
    pub fn blocks(self) -> u64 {
        GROUP.saturating_pow(self.level)
    }

    /// The number of its first block.
    pub fn first(self) -> u64 {
        self.number.saturating_mul(self.blocks())
    }

    /// The position of its summary in the index.
    pub fn position(self) -> u64 {
        entries((self.number + 1).saturating_mul(self.blocks()) - 1) + u64::from(self.level)
    }

    /// The groups that it consists of.
    pub fn parts(self) -> impl Iterator<Item = Group> {
        (0..GROUP).map(move |part| Group { level: self.level - 1, number: self.number * GROUP + part })
    }
}

/// How many summaries the index of so many blocks has.
pub fn entries(blocks: u64) -> u64 {
    std::iter::successors(Some(blocks), |count| Some(count / GROUP)).take_while(|count| *count > 0).sum()
}

/// The number of blocks that an index of so many summaries is whole for.
pub fn blocks(entries_there: u64) -> u64 {
    // Of n blocks there are between n and n · 16/15 summaries.
    let mut count = entries_there - entries_there / GROUP;
    while count > 0 && entries(count) > entries_there {
        count -= 1;
    }
    while entries(count + 1) <= entries_there {
        count += 1;
    }
    count
}

/// The largest groups that so many blocks consist of, in order.
pub fn roots(blocks: u64) -> Vec<Group> {
    let mut roots = Vec::new();
    let mut done = 0;
    let highest = blocks.checked_ilog(GROUP).unwrap_or_default();
    for level in (0..=highest).rev() {
        let size = GROUP.pow(level);
        while blocks - done >= size {
            roots.push(Group { level, number: done / size });
            done += size;
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_a_written_index() {
        let mut written = Vec::new();
        for block in 0..5000 {
            written.push(Group { level: 0, number: block });
            let mut level = 1;
            while (block + 1) % GROUP.pow(level) == 0 {
                written.push(Group { level, number: block / GROUP.pow(level) });
                level += 1;
            }
            assert_eq!(entries(block + 1), written.len() as u64);
            assert_eq!(roots(block + 1).iter().map(|root| root.blocks()).sum::<u64>(), block + 1);
        }
        for (position, group) in written.iter().enumerate() {
            assert_eq!(group.position(), position as u64, "{group:?}");
        }
        // A torn index is whole for the blocks whose groups are there.
        let whole = |there: u64| (0..).take_while(|count| entries(*count) <= there).last();
        for there in 0..2000 {
            assert_eq!(Some(blocks(there)), whole(there));
        }
    }
}

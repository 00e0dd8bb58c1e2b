//! Tiles: the hashes of the tree as they are stored and served (C2SP tlog-tiles), and what is read from them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgExecutor, PgPool};
use tlog_tiles::{Error as ProofError, Hash, HashReader, node_hash, split_stored_hash_index};

use super::frontier::Frontier;

/// Levels of the tree in one tile.
const HEIGHT: u8 = 8;
/// Hashes in a full tile.
pub const WIDTH: u64 = 1 << HEIGHT;
/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;
const FULL_BYTES: usize = WIDTH as usize * HASH_BYTES;

/// Level and number of a tile.
pub type Place = (u8, u64);

/// How many leaves a tree has when this tile is full.
pub fn full_at((level, number): Place) -> u64 {
    (number + 1) << (u32::from(level + 1) * u32::from(HEIGHT))
}

/// How many hashes there are on a level of tiles in a tree of this size; levels beyond the highest have none.
pub fn hashes_on(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(level) * u32::from(HEIGHT))
        .unwrap_or(0)
}

/// Some tiles of a tree, from which other hashes are computed; those that are wanted beside them are noted.
#[derive(Default)]
pub struct Tiles {
    loaded: BTreeMap<Place, Vec<u8>>,
    wanted: RefCell<BTreeSet<Place>>,
}

impl Tiles {
    /// What `compute` makes of stored hashes. It is called again with those that it asked for in vain.
    ///
    /// # Errors
    /// When the database does not answer, a tile is missing, or `compute` fails.
    pub async fn answer<T>(
        pool: &PgPool,
        compute: impl Fn(&Self) -> Result<T, ProofError>,
    ) -> Result<T, TreeError> {
        let mut tiles = Self::default();
        drop(compute(&tiles)?);
        tiles.loaded = load(pool, &tiles.wanted.take()).await?;
        let answer = compute(&tiles)?;
        match tiles.wanted.take().pop_first() {
            None => Ok(answer),
            Some((level, number)) => Err(TreeError::Missing { level, number }),
        }
    }

    /// The tiles with the leaves after the first `from` up to `until`, and those above them that are full once these are in
    /// the tree; those that there are not are left out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn of_leaves(pool: &PgPool, from: u64, until: u64) -> Result<Self, sqlx::Error> {
        let leaves = (from / WIDTH..until.div_ceil(WIDTH)).map(|number| (0, number));
        let above = (1..u8::MAX / HEIGHT).flat_map(|level| {
            let full = hashes_on(level + 1, from)..hashes_on(level + 1, until);
            full.map(move |number| (level, number))
        });
        let loaded = load(pool, &leaves.chain(above).collect()).await?;
        Ok(Self {
            loaded,
            ..Self::default()
        })
    }

    /// A tile as it is stored, if it is there.
    pub fn stored(&self, place: Place) -> Option<&[u8]> {
        self.loaded.get(&place).map(Vec::as_slice)
    }

    /// The stored hash of a leaf, if there is one.
    pub fn leaf(&self, number: u64) -> Option<Hash> {
        let (place, first, _) = place_of(0, number);
        let bytes = self.loaded.get(&place)?;
        Some(root_of(
            bytes.get(first * HASH_BYTES..(first + 1) * HASH_BYTES)?,
        ))
    }

    /// The root of the perfect subtree `number` on a level of the tree.
    pub fn node(&self, level: u8, number: u64) -> Hash {
        let (place, first, count) = place_of(level, number);
        let bytes = self.loaded.get(&place);
        match bytes.and_then(|bytes| bytes.get(first * HASH_BYTES..(first + count) * HASH_BYTES)) {
            Some(bytes) => root_of(bytes),
            None => {
                self.wanted.borrow_mut().insert(place);
                Hash::default()
            }
        }
    }
}

impl HashReader for Tiles {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, ProofError> {
        let node = |index: &u64| {
            let (level, number) = split_stored_hash_index(*index);
            self.node(level, number)
        };
        Ok(indexes.iter().map(node).collect())
    }
}

/// Reads tiles; those that there are not are left out.
async fn load(
    db: impl PgExecutor<'_>,
    places: &BTreeSet<Place>,
) -> Result<BTreeMap<Place, Vec<u8>>, sqlx::Error> {
    let (levels, numbers): (Vec<i16>, Vec<i64>) = places
        .iter()
        .map(|(level, number)| (i16::from(*level), *number as i64))
        .unzip();
    let rows: Vec<(i16, i64, Vec<u8>)> = sqlx::query_as(
        "select t.level, t.number, t.hashes
         from unnest($1::smallint[], $2::bigint[]) wanted (level, number)
         join followers.tiles t on t.level = wanted.level and t.number = wanted.number",
    )
    .bind(levels)
    .bind(numbers)
    .fetch_all(db)
    .await?;
    let tiles = rows
        .into_iter()
        .map(|(level, number, hashes)| ((level as u8, number as u64), hashes));
    Ok(tiles.collect())
}

/// The first `count` hashes of a tile, if there are as many.
///
/// # Errors
/// When the database does not answer.
pub async fn hashes(
    db: impl PgExecutor<'_>,
    place: Place,
    count: u64,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let mut tiles = load(db, &BTreeSet::from([place])).await?;
    let bytes = count as usize * HASH_BYTES;
    Ok(tiles
        .remove(&place)
        .filter(|hashes| hashes.len() >= bytes)
        .map(|mut hashes| {
            hashes.truncate(bytes);
            hashes
        }))
}

/// Where the hashes are that a perfect subtree is computed from: tile, the first of them, and how many.
fn place_of(level: u8, number: u64) -> (Place, usize, usize) {
    let (tile_level, within) = (level / HEIGHT, level % HEIGHT);
    let first = number << within;
    (
        (tile_level, first / WIDTH),
        (first % WIDTH) as usize,
        1 << within,
    )
}

/// The root over the hashes of a perfect subtree.
fn root_of(hashes: &[u8]) -> Hash {
    match hashes.try_into() {
        Ok(hash) => Hash(hash),
        Err(_) => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node_hash(root_of(left), root_of(right))
        }
    }
}

/// The right edge of a tree: what it takes to make it longer.
#[derive(Default)]
pub struct Edge {
    frontier: Frontier,
    /// The last tile of each level unless it is full, and those that were added to.
    tiles: BTreeMap<Place, Vec<u8>>,
}

impl Edge {
    /// The tiles at the edge of a tree of this size.
    fn places(size: u64) -> BTreeSet<Place> {
        (0..)
            .map(|level| (level, hashes_on(level, size)))
            .take_while(|(_, count)| *count > 0)
            .filter(|(_, count)| count % WIDTH > 0)
            .map(|(level, count)| (level, count / WIDTH))
            .collect()
    }

    /// Of the stored tree of this size.
    ///
    /// # Errors
    /// When the database does not answer or a tile is missing.
    pub async fn load(pool: &PgPool, size: u64) -> Result<Self, TreeError> {
        let mut tiles = load(pool, &Self::places(size)).await?;
        let mut frontier = Frontier::default();
        for (level, number) in Self::places(size).into_iter().rev() {
            let count = (hashes_on(level, size) % WIDTH) as usize;
            let missing = TreeError::Missing { level, number };
            let tile = tiles.get_mut(&(level, number)).ok_or(missing)?;
            tile.truncate(count * HASH_BYTES);
            for hash in tile.chunks(HASH_BYTES) {
                frontier.push(level * HEIGHT, root_of(hash));
            }
        }
        match frontier.size() == size {
            true => Ok(Self { frontier, tiles }),
            // A tile has fewer hashes than it should.
            false => Err(TreeError::Short { size }),
        }
    }

    /// Adds the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.frontier.push(0, leaf);
        let (mut level, mut hash) = (0, leaf);
        loop {
            let index = hashes_on(level, self.frontier.size()) - 1;
            let tile = self.tiles.entry((level, index / WIDTH)).or_default();
            tile.extend(hash.0);
            if tile.len() < FULL_BYTES {
                return;
            }
            hash = root_of(tile);
            level += 1;
        }
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The same tree without tiles.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Takes out the tiles that have become full.
    pub fn take_full(&mut self) -> BTreeMap<Place, Vec<u8>> {
        let tiles = std::mem::take(&mut self.tiles).into_iter();
        let (full, rest) = tiles.partition(|(_, hashes)| hashes.len() == FULL_BYTES);
        self.tiles = rest;
        full
    }

    /// The tiles to be written.
    pub fn tiles(&self) -> &BTreeMap<Place, Vec<u8>> {
        &self.tiles
    }
}

/// Why the stored tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The database does not answer.
    #[error("the database does not answer")]
    Database(#[from] sqlx::Error),
    /// A tile is not there.
    #[error("tile {number} of level {level} is missing")]
    Missing {
        /// Of the tile.
        level: u8,
        /// Within the level.
        number: u64,
    },
    /// A tile has fewer hashes than there are.
    #[error("a tile at the edge of the tree of size {size} has too few hashes")]
    Short {
        /// Of the tree.
        size: u64,
    },
    /// A hash is not there, or what is asked for makes no sense.
    #[error("the hashes of the tree cannot be read: {0}")]
    Hashes(#[from] ProofError),
}

// Queries of one sequence that a workgroup of attention takes together; of a decode step it is one.

struct Tile {
    row: u32,      // of the first query in the batch
    queries: u32,  // in this tile
    position: u32, // of the first query in its sequence
    length: u32,   // keys of the sequence
    keys: u32,     // where they are, for the keys part
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

@group(0) @binding(1) var<storage, read> tiles: array<Tile>;

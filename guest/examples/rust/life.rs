//! The Game of Life on a torus, from a random beginning; an epoch for each 25
//! of 100 generations. Build it in a directory where bitgram.rs lies beside:
//!
//!     rustc --target wasm32-wasi -O -o life.wasm life.rs
#[path = "../../rust/bitgram.rs"]
mod bitgram;

const WIDE: usize = 192;
const HIGH: usize = 96;

fn next(cells: &[u8]) -> Vec<u8> {
    let at = |x: usize, y: usize| cells[y % HIGH * WIDE + x % WIDE];
    let mut out = vec![0; WIDE * HIGH];
    for y in 0..HIGH {
        for x in 0..WIDE {
            let (w, n) = (x + WIDE - 1, y + HIGH - 1);
            let near = at(w, n) + at(x, n) + at(x + 1, n) + at(w, y) + at(x + 1, y) + at(w, y + 1) + at(x, y + 1) + at(x + 1, y + 1);
            out[y * WIDE + x] = (near == 3 || near == 2 && at(x, y) == 1) as u8;
        }
    }
    out
}

fn main() {
    // The state is the generation and the cells.
    let (mut generation, mut cells) = match bitgram::restore() {
        Some(state) => (state[0], state[1..].to_vec()),
        None => {
            let mut cells = vec![0; WIDE * HIGH];
            bitgram::random(&mut cells);
            cells.iter_mut().for_each(|c| *c &= 1);
            (0, cells)
        }
    };
    while generation < 100 {
        cells = next(&cells);
        generation += 1;
        if generation % 25 == 0 {
            println!("generation {}: {} alive", generation, cells.iter().map(|&c| c as u32).sum::<u32>());
            let mut state = vec![generation];
            state.extend(&cells);
            bitgram::sync(&state);
        }
    }
    for row in cells.chunks(WIDE).step_by(8) {
        println!("{}", row.iter().step_by(2).map(|&c| if c == 1 { '#' } else { '.' }).collect::<String>());
    }
}

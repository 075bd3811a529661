//! Inputs that are nearly right: what seeds and corpus hold, changed in a few places. The same target gets the same ones
//! every time.

use anyhow::Result;

use crate::{Target, dictionary};

/// Longest input that is made, in bytes.
const LONGEST: usize = 1 << 16;

/// Numbers on which counts and lengths break.
const NUMBERS: [u64; 12] =
    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, i64::MAX as u64, u64::MAX - 7, u64::MAX];

/// Makes one input after the other.
pub struct Mutator {
    state: u64,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// One for a target.
    ///
    /// # Errors
    /// A dictionary that cannot be read.
    pub fn new(target: &Target, inputs: &[Vec<u8>]) -> Result<Mutator> {
        let seed = blake3::hash(target.name.as_bytes());
        let state = u64::from_le_bytes(*seed.as_bytes().first_chunk().expect("a hash is longer")) ^ inputs.len() as u64;
        Ok(Mutator { state: state | 1, words: dictionary(target)? })
    }

    /// A number below `end`, by xorshift (Marsaglia 2003).
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % end.max(1)
    }

    /// A changed copy of one of some inputs.
    pub fn next(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.below(inputs.len())].clone();
        input.truncate(LONGEST);
        for _ in 0..=self.below(4) {
            self.change(&mut input, inputs);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let length = 1usize << self.below(10);
        let end = (at + 1 + self.below(length)).min(input.len());
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.below(256) as u8,
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => {
                // A piece of it once more, or several times.
                let piece = input[at..end].repeat(1 + self.below(8));
                insert(input, at, &piece);
            }
            5 => {
                let other = &inputs[self.below(inputs.len())];
                let from = self.below(other.len() + 1);
                let piece = other[from..].iter().take(1 << self.below(10)).copied().collect::<Vec<_>>();
                insert(input, at, &piece);
            }
            6 => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                let end = (at + width).min(input.len());
                input[at..end].copy_from_slice(&number[..end - at]);
            }
            7 => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_string();
                let end = at + input[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                input.splice(at..end, number.bytes());
            }
            _ if !self.words.is_empty() => {
                let nth = self.below(self.words.len());
                let word = self.words[nth].clone();
                insert(input, at, &word);
            }
            _ => {}
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let room = LONGEST.saturating_sub(input.len());
    input.splice(at..at, piece[..piece.len().min(room)].iter().copied());
}

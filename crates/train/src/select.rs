//! Which features of a batch are active.

use llamascope_compute::{Cpu, Rows, Select, Sparse};

use crate::gradient::encode;
use crate::parameters::Parameters;

/// Below this no guess is worth making: all positive values are looked at.
const LEAST_GUESS: f32 = 1e-3;

/// The `n k` largest values of a batch of `n` rows, wherever they are (BatchTopK: Bussmann, Leask & Nanda 2024, arXiv
/// 2412.06410); ties go to the earlier row, then to the stronger entry of the row. `guess` is a value that fewer than
/// all but more than those exceed, if the last batch is any guide: it saves work and never changes what is chosen.
pub(crate) fn batch_top_k(cpu: &Cpu, parameters: &Parameters, x: &Rows, k: usize, guess: &mut f32) -> Sparse {
    let wanted = k.saturating_mul(x.n());
    loop {
        let select = if *guess < LEAST_GUESS { Select::Positive } else { Select::Above(&vec![*guess; parameters.f]) };
        let found = encode(cpu, parameters, x, select);
        if found.ids.len() >= wanted || *guess < LEAST_GUESS {
            let (chosen, least) = largest(found, wanted);
            *guess = 0.9 * least;
            return chosen;
        }
        *guess *= 0.7;
    }
}

/// The `wanted` largest entries, and the least of them.
fn largest(found: Sparse, wanted: usize) -> (Sparse, f32) {
    if found.ids.len() <= wanted || wanted == 0 {
        return (found, 0.0);
    }
    let mut values = found.vals.clone();
    let least = *values.select_nth_unstable_by(wanted - 1, |a, b| b.total_cmp(a)).1;
    let mut ties = wanted - found.vals.iter().filter(|value| **value > least).count();
    let mut chosen = Sparse { ptr: vec![0], candidates: found.candidates, ..Sparse::default() };
    for row in found.ptr.windows(2) {
        for at in row[0]..row[1] {
            let value = found.vals[at];
            let tie = value == least && ties > 0;
            ties -= usize::from(tie);
            if value > least || tie {
                chosen.ids.push(found.ids[at]);
                chosen.vals.push(value);
            }
        }
        chosen.ptr.push(chosen.ids.len());
    }
    (chosen, least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(rows: &[&[(u32, f32)]]) -> Sparse {
        let mut sparse = Sparse { ptr: vec![0], ..Sparse::default() };
        for row in rows {
            sparse.ids.extend(row.iter().map(|entry| entry.0));
            sparse.vals.extend(row.iter().map(|entry| entry.1));
            sparse.ptr.push(sparse.ids.len());
        }
        sparse
    }

    #[test]
    fn the_largest_of_all_rows_are_kept_and_ties_go_to_the_first() {
        let found = sparse(&[&[(3, 5.0), (1, 2.0), (0, 1.0)], &[], &[(2, 2.0), (7, 2.0), (9, 0.5)]]);
        assert_eq!(largest(found.clone(), 3), (sparse(&[&[(3, 5.0), (1, 2.0)], &[], &[(2, 2.0)]]), 2.0));
        assert_eq!(largest(found.clone(), 9), (found, 0.0));
    }
}

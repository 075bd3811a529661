//! Every number of the gradient against central differences of the loss, which stands here a second time, in f64 and
//! without anything clever. In each single parameter that loss is a parabola, so the differences have no error of their
//! own.

use llamascope_compute::Precision;

use super::*;
use crate::random::Random;
use crate::select::batch_top_k;

/// More rows and features than a task takes, and no width that fits a register.
const N: usize = 45;
const D: usize = 7;
const F: usize = 40;
/// Of a step in one parameter.
const STEP: f64 = 1e-3;

fn random_rows(n: usize, seed: u64) -> Rows {
    let mut random = Random::new(seed, "rows", 0);
    Rows::from_vec(n, D, (0..n * D).map(|_| 1.5 * random.normal()).collect())
}

/// Weights of which nothing is zero and encoder and decoder differ; the decoder's rows have length 1.
fn random_parameters(seed: u64) -> Parameters {
    let mut random = Random::new(seed, "weights", 0);
    let mut parameters = Parameters::random(F, &[0.3; D], &mut random);
    let [w_enc, b_enc, _, b_dec] = parameters.arrays_mut();
    for number in w_enc.iter_mut().chain(b_enc).chain(b_dec) {
        *number += 0.3 * random.normal();
    }
    parameters
}

/// The auxiliary features of each row: the `k` of `dead` with the largest values, negative ones too.
fn shown(parameters: &Parameters, x: &Rows, aux: Aux<'_>) -> Vec<Vec<u32>> {
    let of_row = |row: &[f32]| {
        let value = |id: &u32| {
            let w = &parameters.w_enc()[*id as usize * D..][..D];
            w.iter().zip(row).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>()
                + f64::from(parameters.b_enc[*id as usize])
        };
        let mut ids = aux.dead.to_vec();
        ids.sort_by(|a, b| value(b).total_cmp(&value(a)));
        ids.truncate(aux.k);
        ids
    };
    (0..x.n()).map(|row| of_row(x.row(row))).collect()
}

/// Auxiliary features of each row, the error that they are shown, and the weight.
type HeldAux = (Vec<Vec<u32>>, Vec<Vec<f64>>, f64);

/// What the loss is computed from, with everything that is not differentiated held still.
struct Case<'a> {
    x: &'a Rows,
    active: Vec<Vec<u32>>,
    l1: f64,
    aux: Option<HeldAux>,
}

/// `x'` without or with the decoder's bias, and the sum of values.
fn decode(arrays: &[Vec<f64>; 4], x: &[f32], ids: &[u32], biased: bool) -> (Vec<f64>, f64) {
    let [w_enc, b_enc, w_dec, b_dec] = arrays;
    let mut made = if biased { b_dec.clone() } else { vec![0.0; D] };
    let mut sum = 0.0;
    for id in ids.iter().map(|id| *id as usize) {
        let value = b_enc[id] + (0..D).map(|i| w_enc[id * D + i] * f64::from(x[i])).sum::<f64>();
        (0..D).for_each(|i| made[i] += value * w_dec[id * D + i]);
        sum += value;
    }
    (made, sum)
}

impl Case<'_> {
    fn loss(&self, arrays: &[Vec<f64>; 4]) -> f64 {
        let square = |a: &[f64], b: &dyn Fn(usize) -> f64| (0..D).map(|i| (a[i] - b(i)).powi(2)).sum::<f64>();
        let of_row = |row: usize| {
            let x = self.x.row(row);
            let (made, values) = decode(arrays, x, &self.active[row], true);
            let aux = self.aux.as_ref().map_or(0.0, |(ids, errors, coefficient)| {
                coefficient * square(&decode(arrays, x, &ids[row], false).0, &|i| errors[row][i])
            });
            square(&made, &|i| f64::from(x[i])) + self.l1 * values + aux
        };
        (0..self.x.n()).map(of_row).sum::<f64>() / self.x.n() as f64
    }

    fn gradient(&self, arrays: &[Vec<f64>; 4]) -> [Vec<f64>; 4] {
        let mut moved = arrays.clone();
        let mut found = [0, 1, 2, 3].map(|array: usize| {
            let slope = |at: usize| {
                let mut loss = |by: f64| {
                    moved[array][at] = arrays[array][at] + by;
                    self.loss(&moved)
                };
                let slope = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                moved[array][at] = arrays[array][at];
                slope
            };
            (0..arrays[array].len()).map(slope).collect::<Vec<f64>>()
        });
        // Rows of the decoder keep their length.
        for (g, w) in found[2].chunks_exact_mut(D).zip(arrays[2].chunks_exact(D)) {
            let along: f64 = g.iter().zip(w).map(|(g, w)| g * w).sum();
            g.iter_mut().zip(w).for_each(|(g, w)| *g -= along * w);
        }
        found
    }
}

fn check(what: &str, parameters: &Parameters, x: &Rows, active: &Sparse, l1: f32, aux: Option<Aux<'_>>) {
    let ids_of = |row: usize| active.ids[active.ptr[row]..active.ptr[row + 1]].to_vec();
    let arrays = parameters.arrays().map(|array| array.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>());
    let mut case = Case { x, active: (0..x.n()).map(ids_of).collect(), l1: l1.into(), aux: None };
    let squared_error = Case { l1: 0.0, active: case.active.clone(), ..case }.loss(&arrays) * x.n() as f64;
    case.aux = aux.map(|aux| {
        let left = |row: usize| {
            let made = decode(&arrays, x.row(row), &case.active[row], true).0;
            (0..D).map(|i| f64::from(x.row(row)[i]) - made[i]).collect()
        };
        (shown(parameters, x, aux), (0..x.n()).map(left).collect(), aux.coefficient.into())
    });
    let expected = case.gradient(&arrays);
    let length = expected.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();

    let near = |found: f64, expected: f64, unit: f64| (found - expected).abs() < 2e-5 * unit;
    let mut first: Option<(Losses, Arrays)> = None;
    for threads in [1, 3] {
        let cpu = Cpu::new(threads, Precision::F32).unwrap();
        let mut found = Arrays::zeros(D, F);
        // What stood there before is of no consequence.
        found.0.iter_mut().flatten().for_each(|g| *g = f32::NAN);
        let losses = gradients(&cpu, parameters, x, active, l1, aux, &mut found);
        for ((name, found), expected) in crate::parameters::NAMES.iter().zip(&found.0).zip(&expected) {
            let unit = expected.iter().fold(0f64, |most, g| most.max(g.abs()));
            assert!(unit > 1e-3, "{what}: {name} has a gradient to find");
            for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert!(
                    near(f64::from(*found), *expected, unit),
                    "{what}: {name}[{at}]: {found}, by differences {expected}"
                );
            }
        }
        assert!(near(losses.gradient_norm, length, length), "{what}: {} {length}", losses.gradient_norm);
        assert!(near(losses.squared_error, squared_error, squared_error), "{what}: {losses:?} {squared_error}");
        let values: f64 = active.vals.iter().map(|value| f64::from(*value)).sum();
        assert!(near(losses.values, values, values), "{what}: {losses:?} {values}");
        match &case.aux {
            None => assert_eq!(losses.aux, 0.0),
            Some(aux) => {
                let alone = Case { active: vec![vec![]; x.n()], l1: 0.0, aux: Some(aux.clone()), ..case };
                let without = Case { aux: None, active: alone.active.clone(), ..alone };
                let exact = (alone.loss(&arrays) - without.loss(&arrays)) * x.n() as f64 / aux.2;
                assert!(near(losses.aux, exact, exact), "{what}: {losses:?} {exact}");
            }
        }
        let (losses_of_one, arrays_of_one) = first.get_or_insert_with(|| (losses, found.clone()));
        assert!(*losses_of_one == losses && arrays_of_one.0 == found.0, "{what}: {threads} threads, other numbers");
    }
}

#[test]
fn gradients_are_those_of_differences() {
    let cpu = Cpu::new(1, Precision::F32).unwrap();
    for seed in 0..3 {
        let (parameters, x) = (random_parameters(seed), random_rows(N, seed));
        let dead: Vec<u32> = (0..F as u32).filter(|id| id % 4 == 1).collect();
        let few = Aux { dead: &dead, k: 3, coefficient: 0.25 };
        let auxiliary = [("", None), ("and some of the dead", Some(few)), ("and all dead", Some(Aux { k: 99, ..few }))];
        for (with, aux) in auxiliary {
            let top_k = encode(&cpu, &parameters, &x, Select::TopK(5));
            check(&format!("TopK {with}"), &parameters, &x, &top_k, 0.0, aux);
            let mut guess = 0.0;
            let batch = batch_top_k(&cpu, &parameters, &x, 4, &mut guess);
            assert_eq!(batch.ids.len(), 4 * N);
            assert!(batch.ptr.windows(2).any(|row| row[1] - row[0] != 4));
            check(&format!("BatchTopK {with}"), &parameters, &x, &batch, 0.0, aux);
            let positive = encode(&cpu, &parameters, &x, Select::Positive);
            check(&format!("ReLU {with}"), &parameters, &x, &positive, 0.7, aux);
        }
    }
}

#[test]
fn small_steps_against_the_gradient_lower_the_loss() {
    let cpu = Cpu::new(1, Precision::F32).unwrap();
    let (mut parameters, x) = (random_parameters(1), random_rows(N, 2));
    let mut gradient = Arrays::zeros(D, F);
    let mut last = f64::INFINITY;
    for _ in 0..20 {
        let active = encode(&cpu, &parameters, &x, Select::Positive);
        let losses = gradients(&cpu, &parameters, &x, &active, 0.0, None, &mut gradient);
        assert!(losses.squared_error < last, "{} after {last}", losses.squared_error);
        last = losses.squared_error;
        for (array, gradient) in parameters.arrays_mut().into_iter().zip(&gradient.0) {
            array.iter_mut().zip(gradient).for_each(|(p, g)| *p -= 1e-4 * g);
        }
    }
}

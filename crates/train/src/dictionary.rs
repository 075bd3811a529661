//! One SAE while it is trained.

use llamascope_compute::{AdamStep, Cpu, Rows, Select, Sparse};

use crate::gradient::{self, Aux, Losses};
use crate::measure::Measured;
use crate::parameters::{Arrays, Parameters};
use crate::random::Random;
use crate::select::batch_top_k;
use crate::settings::{Kind, Settings};

/// Added to the root of Adam's second moment.
const EPS: f32 = 1e-8;
/// Rows that the scale of the encoder is set by.
const SCALE_ROWS: usize = 1024;

/// An SAE of one layer, with everything that its training goes on from.
pub(crate) struct Dictionary {
    pub layer: usize,
    pub measured: Measured,
    pub parameters: Parameters,
    pub first: Arrays,
    pub second: Arrays,
    /// By feature, rows since it was active last.
    pub unseen: Vec<u64>,
    /// What makes the choice over a batch quick; changes no number.
    guess: f32,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub losses: Losses,
    /// Rows of the batch.
    pub rows: u64,
    /// Sum of the squares of the rows, from the mean of the data.
    pub variance: f64,
    /// Active features.
    pub active: u64,
}

impl Outcome {
    /// Whether all that was computed is a number.
    pub(crate) fn is_finite(&self) -> bool {
        self.losses.squared_error.is_finite() && self.losses.gradient_norm.is_finite() && self.losses.aux.is_finite()
    }
}

impl Dictionary {
    /// A new SAE of `f` features for rows of which `sample` are some, already scaled.
    pub(crate) fn new(cpu: &Cpu, settings: &Settings, layer: usize, measured: Measured, sample: &Rows) -> Self {
        let d = measured.mean.len();
        let f = settings.expansion * d;
        let mut random = Random::new(settings.seed, "weights", layer as u64);
        let mut parameters = Parameters::random(f, &measured.mean, &mut random);
        // Random directions overlap: the sum of what many of them read is too long by a factor, which is measured.
        let n = sample.n().min(SCALE_ROWS);
        let sample = Rows::from_vec(n, d, sample.data()[..n * d].to_vec());
        let k = settings.k_at(0).min(f);
        let select = if settings.kind == Kind::Relu { Select::Positive } else { Select::TopK(k) };
        let active = gradient::encode(cpu, &parameters, &sample, select);
        let errors = gradient::errors(cpu, &parameters, &sample, &active);
        let (mut along, mut square) = (0f64, 0f64);
        for row in 0..n {
            for ((error, x), b) in errors.row(row).iter().zip(sample.row(row)).zip(&parameters.b_dec) {
                let (wanted, made) = (f64::from(x - b), f64::from(error + x - b));
                along += wanted * made;
                square += made * made;
            }
        }
        if along > 0.0 && square > 0.0 {
            parameters.scale_encoder((along / square) as f32);
        }
        let zeros = Arrays::zeros(d, f);
        Dictionary { layer, measured, parameters, first: zeros.clone(), second: zeros, unseen: vec![0; f], guess: 0.0 }
    }

    /// From what a checkpoint holds.
    pub(crate) fn resumed(
        layer: usize,
        measured: Measured,
        parameters: Parameters,
        [first, second]: [Arrays; 2],
        unseen: Vec<u64>,
    ) -> Self {
        Dictionary { layer, measured, parameters, first, second, unseen, guess: 0.0 }
    }

    /// How many features are dead.
    pub(crate) fn dead(&self, settings: &Settings) -> u64 {
        self.unseen.iter().filter(|unseen| **unseen >= settings.dead_after).count() as u64
    }

    /// Trains on a batch. When the outcome is not finite, nothing has been changed.
    pub(crate) fn step(
        &mut self,
        cpu: &Cpu,
        settings: &Settings,
        step: u64,
        x: &Rows,
        scratch: &mut Arrays,
    ) -> Outcome {
        let Parameters { d, f, .. } = self.parameters;
        let k = settings.k_at(step).min(f);
        let active = self.choose(cpu, settings.kind, x, k);
        let dead: Vec<u32> = (0..f as u32).filter(|id| self.unseen[*id as usize] >= settings.dead_after).collect();
        let aux = (!dead.is_empty() && settings.aux_coefficient > 0.0).then(|| Aux {
            dead: &dead,
            k: settings.aux_k.unwrap_or(d / 2).max(1),
            coefficient: settings.aux_coefficient as f32,
        });
        let l1 = settings.l1_at(step) as f32;
        let losses = gradient::gradients(cpu, &self.parameters, x, &active, l1, aux, scratch);
        let outcome =
            Outcome { losses, rows: x.n() as u64, variance: self.variance(x), active: active.ids.len() as u64 };
        if !outcome.is_finite() {
            return outcome;
        }
        let t = i32::try_from(step + 1).unwrap_or(i32::MAX);
        let adam = AdamStep {
            rate: (settings.learning_rate_at(step) / (1.0 - settings.beta1.powi(t))) as f32,
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            unbias2: (1.0 / (1.0 - settings.beta2.powi(t)).sqrt()) as f32,
            eps: EPS,
            clip: (settings.clip / losses.gradient_norm.max(1e-30)).min(1.0) as f32,
        };
        self.parameters.step(cpu, &adam, scratch, &mut self.first, &mut self.second);
        self.unseen.iter_mut().for_each(|unseen| *unseen = unseen.saturating_add(x.n() as u64));
        active.ids.iter().for_each(|id| self.unseen[*id as usize] = 0);
        outcome
    }

    fn choose(&mut self, cpu: &Cpu, kind: Kind, x: &Rows, k: usize) -> Sparse {
        match kind {
            Kind::TopK => gradient::encode(cpu, &self.parameters, x, Select::TopK(k)),
            Kind::BatchTopK => batch_top_k(cpu, &self.parameters, x, k, &mut self.guess),
            Kind::Relu => gradient::encode(cpu, &self.parameters, x, Select::Positive),
        }
    }

    /// Sum of the squared distances of rows from the mean of the data.
    fn variance(&self, x: &Rows) -> f64 {
        let row = |row| x.row(row).iter().zip(&self.measured.mean).map(|(x, m)| (x - m) * (x - m)).sum::<f32>();
        (0..x.n()).map(|at| f64::from(row(at))).sum()
    }
}

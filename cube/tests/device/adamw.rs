//! AdamW with clipping and the guard against the update in f64.

use cube::{AdamWBuffers, AdamWStep, Buffer, adamw};

use crate::testing::{Device, close, values};

const BETAS: [f64; 2] = [0.9, 0.999];
const RATE: f64 = 0.01;
const DECAY: f64 = 0.1;

/// Values whose squares one cube sums up.
const PIECE: usize = 1 << 14;

fn step(clip_norm: f32) -> AdamWStep {
    AdamWStep {
        betas: BETAS.map(|beta| beta as f32),
        shares: BETAS.map(|beta| (1.0 - beta) as f32),
        clip_norm,
        rate: RATE as f32,
        epsilon: 1e-8,
        keep: (1.0 - RATE * DECAY) as f32,
    }
}

struct State {
    values: Buffer,
    first: Buffer,
    second: Buffer,
    corrections: Buffer,
}

impl State {
    fn new(device: &Device, length: usize) -> Self {
        let zeros = |length| device.f32(&vec![0.0; length]);
        let values = device.f32(&values(length, 0.1));
        Self { values, first: zeros(length), second: zeros(length), corrections: zeros(2) }
    }

    fn update(&mut self, device: &Device, gradient: &[f32], loss: f32, step: &AdamWStep) -> f64 {
        let (updated, norm) = (device.empty_f32(gradient.len()), device.empty_f32(1));
        let buffers = AdamWBuffers {
            values: &self.values,
            gradient: &device.f32(gradient),
            loss: &device.f32(&[loss]),
            first: &self.first,
            second: &self.second,
            corrections: &self.corrections,
            updated: &updated,
            norm: &norm,
        };
        adamw(&device.client, &buffers, step);
        self.values = updated;
        device.read(&norm)[0]
    }

    fn read(&self, device: &Device) -> [Vec<f64>; 4] {
        [&self.values, &self.first, &self.second, &self.corrections].map(|buffer| device.read(buffer))
    }
}

#[test]
fn updates_match_the_definition_in_f64() {
    let device = Device::open();
    for (length, clip_norm) in [(PIECE * 2 + 37, 1.0), (1, 1.0), (1000, f32::MAX), (64, 1e6)] {
        let mut state = State::new(&device, length);
        let mut expected: Vec<f64> = device.read(&state.values);
        let (mut first, mut second) = (vec![0.0; length], vec![0.0; length]);
        for time in 1..=4 {
            let gradient = values(length, time as f32);
            let norm = state.update(&device, &gradient, 1.0, &step(clip_norm));
            let exact = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!((norm / exact - 1.0).abs() < 1e-6, "{norm} is not {exact}");
            let scale = (f64::from(clip_norm) / (exact + 1e-6)).min(1.0);
            for i in 0..length {
                let g = f64::from(gradient[i]) * scale;
                first[i] = BETAS[0] * first[i] + (1.0 - BETAS[0]) * g;
                second[i] = BETAS[1] * second[i] + (1.0 - BETAS[1]) * g * g;
                let m = first[i] / (1.0 - BETAS[0].powi(time));
                let v = second[i] / (1.0 - BETAS[1].powi(time));
                expected[i] = expected[i] * (1.0 - RATE * DECAY) - RATE * m / (v.sqrt() + 1e-8);
            }
        }
        let found = state.read(&device);
        for (found, expected) in found.iter().zip([&expected, &first, &second]) {
            close(found, expected, 2e-6);
        }
        let expected = BETAS.map(|beta| 1.0 - beta.powi(4));
        close(&found[3], &expected, 1e-7);
    }
}

#[test]
fn what_is_not_finite_changes_nothing() {
    let device = Device::open();
    let fine = values(70, 0.4);
    let with = |value: f32| {
        let mut gradient = fine.clone();
        gradient[69] = value;
        gradient
    };
    let cases = [
        (with(f32::NAN), 1.0),
        (with(f32::INFINITY), 1.0),
        (with(1e30), 1.0),
        (fine.clone(), f32::NAN),
        (fine.clone(), f32::NEG_INFINITY),
    ];
    for (gradient, loss) in cases {
        let mut state = State::new(&device, 70);
        assert!(state.update(&device, &fine, 1.0, &step(1.0)).is_finite());
        let before = state.read(&device);
        assert!(!state.update(&device, &gradient, loss, &step(1.0)).is_finite());
        assert_eq!(before, state.read(&device));
    }
}

//! The gradient gate: when the flow loss has fallen far below its running average, the head has found a short cut, and
//! its gradient is kept from the backbone for a step.

use burn::tensor::{DType, Device, Tensor, TensorData};
use faults::Fault;

use crate::State;

/// Decay of the running average.
const DECAY: f64 = 0.99;
/// The gate shuts when the last loss is below the average divided by this.
const THRESHOLD: f64 = 1.5;

/// Last loss and running average, on the device so that no step waits for them.
pub struct Gate {
    /// `[last loss, average]`, `[2]`; `None` before the first step.
    losses: Option<Tensor<1>>,
    device: Device,
}

impl Gate {
    pub fn new(device: &Device) -> Self {
        Self { losses: None, device: device.clone() }
    }

    /// 1 where the gradient passes and 0 where it does not, `[1]`.
    pub fn opening(&self) -> Tensor<1> {
        let Some(losses) = &self.losses else { return Tensor::ones([1], &self.device) };
        let (last, average) = (losses.clone().narrow(0, 0, 1), losses.clone().narrow(0, 1, 1));
        last.greater_equal(average.div_scalar(THRESHOLD)).float()
    }

    /// Takes note of the loss of a step, `[1]`. One that is not finite is passed over, as its step is.
    pub fn observe(&mut self, loss: Tensor<1>) {
        let before = match self.losses.take() {
            Some(losses) => losses,
            None => loss.clone().repeat_dim(0, 2),
        };
        let average = before.clone().narrow(0, 1, 1).mul_scalar(DECAY) + loss.clone().mul_scalar(1.0 - DECAY);
        let keep = loss.clone().is_finite().bool_not().expand([2]);
        self.losses = Some(Tensor::cat(vec![loss, average], 0).mask_where(keep, before));
    }

    pub fn save(&self, state: &mut State) {
        if let Some(losses) = &self.losses {
            state.insert("gate".into(), losses.clone().into_data());
        }
    }

    /// # Errors
    /// Numbers that are not a gate's.
    pub fn restore(&mut self, data: Option<TensorData>) -> Result<(), Fault> {
        self.losses = match data {
            Some(data) if data.dtype() == DType::F32 && data.shape().to_vec() == [2] => {
                Some(Tensor::from_data(data, &self.device))
            }
            Some(_) => {
                return Err(Fault::new("the saved state of the gradient gate is not two numbers")
                    .hint("resume with the recipe that saved it, or start again without `--resume`"));
            }
            None => None,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(value: f32) -> Tensor<1> {
        Tensor::from_floats([value], &Device::flex())
    }

    #[test]
    fn the_gate_shuts_below_two_thirds_of_the_average_and_opens_again() {
        let mut gate = Gate::new(&Device::flex());
        let opening = |gate: &Gate| gate.opening().into_scalar::<f32>();
        assert_eq!(opening(&gate), 1.0);
        let mut average = 0.9f64;
        for (index, (loss, expected)) in
            [(0.9, 1.0), (0.7, 1.0), (0.58, 0.0), (0.61, 1.0), (0.2, 0.0)].into_iter().enumerate()
        {
            gate.observe(scalar(loss));
            average = if index == 0 { f64::from(loss) } else { 0.99 * average + 0.01 * f64::from(loss) };
            assert_eq!(opening(&gate), expected, "loss {loss} against the average {average}");
            assert_eq!(f64::from(u8::from(f64::from(loss) >= average / 1.5)), f64::from(expected));
        }
        gate.observe(scalar(f32::NAN));
        assert_eq!(opening(&gate), 0.0);
        let mut state = State::new();
        gate.save(&mut state);
        let mut other = Gate::new(&Device::flex());
        other.restore(state.remove("gate")).expect("its own state");
        for gate in [&mut gate, &mut other] {
            gate.observe(scalar(0.55));
        }
        let values = |gate: &Gate| gate.losses.clone().expect("losses").into_data().try_to_vec::<f32>().expect("f32");
        assert_eq!(values(&gate), values(&other));
        assert!(other.restore(Some(TensorData::new(vec![1.0f32], [1]))).is_err());
    }
}

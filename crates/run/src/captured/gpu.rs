//! How busy the machine's NVIDIA GPUs are, as its driver says.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use serde_json::{Value, json};

/// The driver's library.
pub(super) struct Gpus(Nvml);

impl Gpus {
    /// `None` where there is no such driver.
    pub(super) fn open() -> Option<Gpus> {
        Nvml::init().ok().map(Gpus)
    }

    /// The driver, its CUDA, and each GPU.
    pub(super) fn about(&self) -> Value {
        let gpu = |index: u32| {
            let device = self.0.device_by_index(index).ok()?;
            Some(
                json!({ "name": device.name().ok(), "uuid": device.uuid().ok(), "memory_bytes": device.memory_info().ok().map(|memory| memory.total) }),
            )
        };
        let gpus: Vec<Value> = (0..self.0.device_count().unwrap_or(0)).filter_map(gpu).collect();
        let cuda =
            self.0.sys_cuda_driver_version().ok().map(|version| format!("{}.{}", version / 1000, version % 1000 / 10));
        json!({ "driver": self.0.sys_driver_version().ok(), "cuda": cuda, "devices": gpus })
    }

    /// Of each GPU what it says of itself, by tag.
    pub(super) fn values(&self) -> Vec<(String, f64)> {
        let mut values = Vec::new();
        for index in 0..self.0.device_count().unwrap_or(0) {
            let Ok(device) = self.0.device_by_index(index) else { continue };
            let said = [
                ("utilization_percent", device.utilization_rates().ok().map(|rates| f64::from(rates.gpu))),
                (
                    "memory_percent",
                    device.memory_info().ok().map(|memory| 100.0 * memory.used as f64 / memory.total.max(1) as f64),
                ),
                ("celsius", device.temperature(TemperatureSensor::Gpu).ok().map(f64::from)),
                ("watts", device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0)),
            ];
            values.extend(said.into_iter().filter_map(|(name, value)| Some((format!("gpu{index}/{name}"), value?))));
        }
        values
    }
}

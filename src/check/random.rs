//! Seeded random inputs.

use half::{bf16, f16};

use crate::kernels::WeightType;
use crate::reference::dequantised;

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// From a seed and a name: another sequence for each name.
    pub fn of(seed: u64, name: &str) -> Self {
        // FNV-1a, from a start that the seed has changed
        let start = Random(seed).bits();
        Random(name.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Uniform in [-1, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Values uniform in [center - spread, center + spread).
    pub fn values(&mut self, n: usize, center: f32, spread: f32) -> Vec<f32> {
        (0..n).map(|_| center + spread * self.uniform()).collect()
    }

    /// The numbers below `n` in some order (Fisher and Yates 1938).
    pub fn shuffled(&mut self, n: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            all.swap(i, self.below(i + 1));
        }
        all
    }

    /// A weight `[rows, columns]` as it is stored on the GPU, and the same values in f64.
    pub fn weight(&mut self, rows: usize, columns: usize, weight_type: WeightType) -> (Vec<u8>, Vec<f64>) {
        if weight_type.quantised() {
            return self.blocks(rows * columns, weight_type);
        }
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            for c in 0..weight_type.stride(columns) {
                let value = if c < columns { self.uniform() } else { 0.0 };
                let kept = match weight_type {
                    WeightType::F32 => {
                        bytes.extend(value.to_le_bytes());
                        value
                    }
                    WeightType::F16 => {
                        bytes.extend(f16::from_f32(value).to_le_bytes());
                        f16::from_f32(value).to_f32()
                    }
                    WeightType::Bf16 => {
                        bytes.extend(bf16::from_f32(value).to_le_bytes());
                        bf16::from_f32(value).to_f32()
                    }
                    _ => continue,
                };
                if c < columns {
                    values.push(f64::from(kept));
                }
            }
        }
        (bytes, values)
    }

    /// Blocks of so many elements in all, and their values: any bytes, with scales that make values of about 1. Some
    /// scales are subnormal, as those of real models are. The buffer is as long as an allocation would be.
    fn blocks(&mut self, elements: usize, weight_type: WeightType) -> (Vec<u8>, Vec<f64>) {
        // where a block's scales are, and how large they are
        let scales: &[(usize, f32)] = match weight_type {
            WeightType::F32 | WeightType::F16 | WeightType::Bf16 => &[],
            WeightType::Q8_0 => &[(0, 1.0 / 128.0)],
            WeightType::Q4_0 => &[(0, 1.0 / 8.0)],
            WeightType::Q4K => &[(0, 1.0 / 63.0 / 15.0), (2, 1.0 / 63.0)],
            WeightType::Q5K => &[(0, 1.0 / 63.0 / 31.0), (2, 1.0 / 63.0)],
            WeightType::Q6K => &[(208, 1.0 / 128.0 / 32.0)],
        };
        let mut bytes: Vec<u8> = (0..weight_type.row_bytes(elements)).map(|_| self.bits() as u8).collect();
        for block in bytes.chunks_exact_mut(weight_type.block().bytes) {
            for &(at, size) in scales {
                let scale = match self.below(8) {
                    0 => f16::from_bits(self.below(0x400) as u16),
                    _ => f16::from_f32(size * (1.0 + 0.5 * self.uniform())),
                };
                let scale = if self.below(2) == 0 { scale } else { -scale };
                block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        let values = widen(&dequantised(weight_type, &bytes));
        bytes.resize(bytes.len().next_multiple_of(16), 0xa5);
        (bytes, values)
    }
}

/// The values of a weight `[rows, columns]` that is stored like that, in f64.
pub fn stored_values(weight_type: WeightType, bytes: &[u8], rows: usize, columns: usize) -> Vec<f64> {
    if weight_type.quantised() {
        return widen(&dequantised(weight_type, &bytes[..rows * weight_type.row_bytes(columns)]));
    }
    let value = |element: &[u8]| match (weight_type, element) {
        (WeightType::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f64(),
        (WeightType::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f64(),
        (_, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        _ => f64::NAN,
    };
    let size = weight_type.block().bytes;
    let row = |row: &[u8]| row.chunks_exact(size).take(columns).map(value).collect::<Vec<_>>();
    bytes.chunks_exact(size * weight_type.stride(columns)).take(rows).flat_map(row).collect()
}

/// The same values in f64.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// The bytes of values.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

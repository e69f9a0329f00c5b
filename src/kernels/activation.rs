//! Activations, which `matmul` applies in its epilogue and `gate` to half of its input.

/// A function of one value; the numbers are the shader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    None = 0,
    /// GELU by the error function.
    GeluErf = 1,
    /// GELU by its tanh approximation.
    GeluTanh = 2,
    /// max(x, 0).
    Relu = 3,
    /// The hyperbolic tangent.
    Tanh = 4,
    /// The logistic function.
    Sigmoid = 5,
    /// x · sigmoid(x).
    Silu = 6,
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 7] = [
        Activation::None,
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::Relu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Silu,
    ];

    /// Those that products apply to gates. A model with another one has `gate` do it.
    pub const GATES: [Activation; 3] = [Activation::Silu, Activation::GeluTanh, Activation::GeluErf];

    pub(super) fn tag(self) -> &'static str {
        match self {
            Activation::None => "",
            Activation::GeluErf => "gelu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
            Activation::Silu => "silu",
        }
    }
}

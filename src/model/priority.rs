/// 0..=9; higher is delivered first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Priority(u8);

impl Priority {
    /// Takes any number into the range.
    pub fn clamped(number: i64) -> Self {
        Self(u8::try_from(number.clamp(0, 9)).expect("clamped"))
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }
}

//! Tables as bytes with a checksum.

use super::TablesError;

/// What makes the sum of all bytes 0.
pub(super) fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

/// Puts the checksum of all of `bytes` at `at`.
pub(super) fn seal(bytes: &mut [u8], at: usize) {
    let sum = checksum(bytes);
    if let Some(byte) = bytes.get_mut(at) {
        *byte = byte.wrapping_add(sum);
    }
}

/// `value` in a narrower field.
pub(super) fn narrow<T, U>(
    table: &'static str,
    field: &'static str,
    value: T,
    most: U,
) -> Result<U, TablesError>
where
    T: Copy + TryInto<U> + Into<u64>,
    U: Into<u64>,
{
    value.try_into().map_err(|_| TablesError::Field {
        table,
        field,
        value: value.into(),
        most: most.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_table_sums_to_zero() {
        let mut table = vec![0x12, 0xff, 0x00, 0x80];
        seal(&mut table, 2);
        assert_eq!(table, [0x12, 0xff, 0x6f, 0x80]);
        assert_eq!(checksum(&table), 0);
    }
}

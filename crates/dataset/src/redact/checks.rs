//! Checksums.

/// Luhn's check digit, as payment cards have it. `digits` holds ASCII digits.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(digit - b'0')) {
            (0, value) => value,
            (_, value) if value > 4 => 2 * value - 9,
            (_, value) => 2 * value,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// ISO 7064 mod 97-10 over letters and digits, as an IBAN has it: the first four go behind the others.
pub(super) fn iban(upper: &[u8]) -> bool {
    let value = |rest: u32, byte: u8| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    };
    upper.len() > 4 && upper[4..].iter().chain(&upper[..4]).fold(0, |rest, &byte| value(rest, byte)) == 1
}

/// The length of an IBAN of a country (ISO 13616 registry, 2024).
pub(super) fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FO" | b"FI" | b"GL" | b"NL" | b"SD" | b"FK" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"XK" | b"MN" => 20,
        b"HR" | b"LV" | b"LI" | b"CH" => 21,
        b"BH" | b"BG" | b"CR" | b"GE" | b"DE" | b"IE" | b"ME" | b"RS" | b"GB" | b"VA" => 22,
        b"AE" | b"IL" | b"TL" | b"GI" | b"IQ" | b"OM" | b"SO" => 23,
        b"AD" | b"CZ" | b"MD" | b"PK" | b"RO" | b"SA" | b"SK" | b"ES" | b"SE" | b"TN" | b"VG" => 24,
        b"PT" | b"ST" | b"LY" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"CY" | b"DO" | b"GT" | b"HU" | b"LB" | b"NI" | b"PL" | b"BY" | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

/// Brazil's CPF: eleven digits, two of them check digits modulo 11.
pub(super) fn cpf(digits: &[u8]) -> bool {
    let check = |n: usize| {
        let weight = |i: usize| u32::try_from(n + 1 - i).expect("below twelve");
        let sum: u32 = digits[..n].iter().enumerate().map(|(i, d)| u32::from(d - b'0') * weight(i)).sum();
        sum * 10 % 11 % 10 == u32::from(digits[n] - b'0')
    };
    digits.len() == 11 && digits.iter().any(|d| *d != digits[0]) && check(9) && check(10)
}

/// Spain's DNI and NIE: the letter behind the number.
pub(super) fn dni(number: u32, letter: u8) -> bool {
    b"TRWAGMYFPDXBNJZSQVHLCKE"[(number % 23) as usize] == letter.to_ascii_uppercase()
}

/// France's NIR: thirteen digits and a key of two, 97 minus the number modulo 97; sex and month are plausible.
pub(super) fn nir(digits: &[u8]) -> bool {
    let number = |digits: &[u8]| digits.iter().fold(0_u64, |n, d| n * 10 + u64::from(d - b'0'));
    digits.len() == 15
        && matches!(digits[0], b'1' | b'2')
        && matches!(number(&digits[3..5]), 1..=12 | 20..=42 | 50..=99)
        && 97 - number(&digits[..13]) % 97 == number(&digits[13..])
}

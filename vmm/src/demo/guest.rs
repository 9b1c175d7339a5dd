//! The guest's memory, and its listing for people.

use std::fmt::Write;

use super::program::{CODE, DATA, PROGRAM, TEXTS};

/// The bytes that guest RAM holds from [`CODE`] on: the program, a gap, the texts.
pub(super) fn image() -> Vec<u8> {
    let code = PROGRAM.iter().flat_map(|routine| routine.lines);
    let mut image: Vec<u8> = code.flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    image.resize(usize::from(DATA - CODE), 0);
    for text in TEXTS {
        image.extend_from_slice(text.as_bytes());
        image.push(0);
    }
    image
}

/// How many bytes of code the program has.
pub(super) fn code_len() -> usize {
    PROGRAM.iter().flat_map(|routine| routine.lines).map(|(bytes, _)| bytes.len()).sum()
}

/// The guest's program for people: every instruction with its address, its bytes and, routine by
/// routine, what it is for.
pub fn listing() -> String {
    let mut out = String::new();
    for routine in PROGRAM {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}:\n    ; {}", routine.name, routine.why);
        let mut at = usize::from(routine.at);
        for (bytes, text) in routine.lines {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
            let _ = writeln!(out, "    {at:04x}  {hex:<24} {text}");
            at += bytes.len();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter, OpKind};

    use super::*;

    /// The program as a processor in 16-bit mode reads it.
    fn decoded() -> Vec<Instruction> {
        let image = image();
        let (code, ip) = (&image[..code_len()], u64::from(CODE));
        Decoder::with_ip(16, code, ip, DecoderOptions::NONE).into_iter().collect()
    }

    fn texts_of(instructions: &[Instruction]) -> Vec<String> {
        let mut formatter = NasmFormatter::new();
        let options = formatter.options_mut();
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_branch_leading_zeros(false);
        let text = |instruction| {
            let mut text = String::new();
            formatter.format(instruction, &mut text);
            text
        };
        instructions.iter().map(text).collect()
    }

    #[test]
    fn every_line_says_what_its_bytes_do() {
        let lines = || PROGRAM.iter().flat_map(|routine| routine.lines);
        let instructions = decoded();
        let lengths: Vec<usize> = instructions.iter().map(Instruction::len).collect();
        assert_eq!(lengths, lines().map(|(bytes, _)| bytes.len()).collect::<Vec<_>>());
        assert_eq!(texts_of(&instructions), lines().map(|(_, text)| *text).collect::<Vec<_>>());
    }

    #[test]
    fn every_routine_is_where_it_says() {
        let mut at = CODE;
        for routine in PROGRAM {
            assert_eq!(routine.at, at, "{}", routine.name);
            let len: usize = routine.lines.iter().map(|(bytes, _)| bytes.len()).sum();
            at += u16::try_from(len).unwrap();
        }
        assert!(at <= DATA, "code at {at:#x} has run into the texts at {DATA:#x}");
    }

    #[test]
    fn every_branch_and_call_leads_to_an_instruction() {
        let instructions = decoded();
        let starts: BTreeSet<u64> = instructions.iter().map(Instruction::ip).collect();
        let near = |i: &&Instruction| i.op_count() > 0 && i.op0_kind() == OpKind::NearBranch16;
        let targets: Vec<u64> =
            instructions.iter().filter(near).map(Instruction::near_branch_target).collect();
        assert!(targets.len() > 30);
        assert!(targets.iter().all(|target| starts.contains(target)), "{targets:x?}");
    }

    #[test]
    fn every_text_is_printed_once_from_its_start() {
        let mut starts = Vec::new();
        let mut at = usize::from(DATA);
        for text in TEXTS {
            starts.push(format!("mov si,{at:#x}"));
            at += text.len() + 1;
        }
        let uses: Vec<String> = texts_of(&decoded())
            .into_iter()
            .filter(|text| text.starts_with("mov si,0x80") || text.starts_with("mov si,0x81"))
            .collect();
        let sorted = |mut texts: Vec<String>| {
            texts.sort();
            texts
        };
        assert_eq!(sorted(uses), sorted(starts));
    }

    #[test]
    fn the_timer_vector_leads_to_the_timer_routine() {
        let tick = PROGRAM.iter().find(|routine| routine.name == "tick").unwrap();
        let set = format!("mov word [0x80],{:#x}", tick.at);
        assert!(texts_of(&decoded()).contains(&set));
    }

    #[test]
    fn the_listing_has_every_instruction_at_its_address() {
        let listing = listing();
        let lines = PROGRAM.iter().map(|routine| routine.lines.len() + 2).sum::<usize>();
        assert_eq!(listing.lines().count(), lines);
        assert!(listing.contains("    7c00  ba f9 03                 mov dx,0x3f9\n"));
    }
}

//! The version that a Windows program tells of itself: the resource VERSIONINFO of a PE file (PE format, "The .rsrc
//! section"; `VS_VERSIONINFO` in the documentation of Windows). Only the headers and that resource are read.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
};

use kanade_model::Version;
use object::{
    LittleEndian as LE, pe,
    read::{
        ReadCache, ReadRef,
        pe::{
            ImageNtHeaders, ResourceDirectory, ResourceDirectoryEntryData, ResourceDirectoryTable,
            SectionTable, optional_header_magic,
        },
    },
};

/// The most that is read of the directory of resources, in bytes; some programs carry pictures in theirs.
const LARGEST_DIRECTORY: u32 = 16 << 20;
/// The most that is read of the resource itself, in bytes. Lengths in it are of 16 bits.
const LARGEST_RESOURCE: u32 = 64 << 10;
/// How deep tables of resources lie in each other: by kind, by name, by language.
const DEPTH: usize = 3;

/// The version in VERSIONINFO: the product's, else the file's, as text if there is one that can be a version, else of
/// the numbers. `None` for whatever is not a Windows program with such a resource.
pub(super) fn version_of(file: &File) -> Option<Version> {
    let resource = resource(BufReader::new(file))?;
    let root = Node::read(&resource)?.0;
    text(&root, "ProductVersion")
        .or_else(|| text(&root, "FileVersion"))
        .or_else(|| numbers(root.value))
}

fn resource(file: impl Read + Seek) -> Option<Vec<u8>> {
    let data = ReadCache::new(file);
    match optional_header_magic(&data).ok()? {
        pe::IMAGE_NT_OPTIONAL_HDR32_MAGIC => resource_of::<pe::ImageNtHeaders32, _>(&data),
        pe::IMAGE_NT_OPTIONAL_HDR64_MAGIC => resource_of::<pe::ImageNtHeaders64, _>(&data),
        _ => None,
    }
}

fn resource_of<'data, H: ImageNtHeaders, R: ReadRef<'data>>(data: R) -> Option<Vec<u8>> {
    let mut offset = pe::ImageDosHeader::parse(data).ok()?.nt_headers_offset().into();
    let (headers, directories) = H::parse(data, &mut offset).ok()?;
    let sections = headers.sections(data, offset).ok()?;
    let (address, size) = directories
        .get(pe::IMAGE_DIRECTORY_ENTRY_RESOURCE)?
        .address_range();
    let directory = ResourceDirectory::new(part(data, &sections, address, size, LARGEST_DIRECTORY)?);
    // By kind, then by name, then by language; of several the first.
    let kind = directory.root().ok()?;
    let kinds = kind.entries.iter();
    let mut entry = kinds
        .filter(|entry| entry.name_or_id().id() == Some(pe::RT_VERSION))
        .find_map(|entry| entry.data(directory).ok())?;
    for _ in 0..DEPTH {
        if let ResourceDirectoryEntryData::Table(ResourceDirectoryTable { entries, .. }) = entry {
            entry = entries.first()?.data(directory).ok()?;
        }
    }
    let entry = entry.data()?;
    let (address, size) = (entry.offset_to_data.get(LE), entry.size.get(LE));
    part(data, &sections, address, size, LARGEST_RESOURCE).map(<[u8]>::to_vec)
}

/// A part of the program by its address in memory.
fn part<'data, R: ReadRef<'data>>(
    data: R,
    sections: &SectionTable<'data>,
    address: u32,
    size: u32,
    most: u32,
) -> Option<&'data [u8]> {
    let (offset, left) = sections.pe_file_range_at(address)?;
    let size = size.min(left);
    (size <= most)
        .then(|| data.read_bytes_at(offset.into(), size.into()).ok())
        .flatten()
}

/// A node of the resource: what it is called, its value, and the nodes in it.
struct Node<'a> {
    key: String,
    value: &'a [u8],
    inner: &'a [u8],
}

impl<'a> Node<'a> {
    /// Reads a node and says what follows it.
    fn read(data: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (length, value_length) = (number(data, 0)?, number(data, 2)?);
        let is_text = number(data, 4)? == 1;
        let node = data.get(..usize::from(length))?;
        let key: Vec<u16> = units(node.get(6..)?).take_while(|unit| *unit != 0).collect();
        let value_from = aligned(6 + 2 * (key.len() + 1));
        // In characters where it is text, though some tools count its bytes.
        let value_length = usize::from(value_length) * if is_text { 2 } else { 1 };
        let value_to = (value_from + value_length).min(node.len());
        let found = Self {
            key: String::from_utf16_lossy(&key),
            value: node.get(value_from..value_to).unwrap_or_default(),
            inner: node.get(aligned(value_to)..).unwrap_or_default(),
        };
        // At least a head further, so that this ends.
        let next = aligned(usize::from(length).max(6));
        Some((found, data.get(next..).unwrap_or_default()))
    }

    fn nodes(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let mut left = self.inner;
        std::iter::from_fn(move || {
            let (node, rest) = Node::read(left)?;
            left = rest;
            Some(node)
        })
    }
}

/// The version under this name, in whatever language.
fn text(root: &Node<'_>, name: &str) -> Option<Version> {
    let texts = root.nodes().filter(|node| node.key == "StringFileInfo");
    let texts = texts
        .flat_map(|texts| texts.nodes())
        .flat_map(|language| language.nodes());
    texts.filter(|text| text.key == name).find_map(|text| {
        let units: Vec<u16> = units(text.value).take_while(|unit| *unit != 0).collect();
        version(String::from_utf16_lossy(&units).trim())
    })
}

/// The version in `VS_FIXEDFILEINFO`: four numbers, of which the last is left out when it is zero.
fn numbers(fixed: &[u8]) -> Option<Version> {
    if number(fixed, 0)? != 0x04BD || number(fixed, 2)? != 0xFEEF {
        return None;
    }
    let at = |offset: usize| {
        let [minor, major, build, patch] = [0, 2, 4, 6].map(|within: usize| number(fixed, offset + within));
        Some([major?, minor?, patch?, build?])
    };
    let [major, minor, patch, build] = [at(16)?, at(8)?].into_iter().find(|of| *of != [0; 4])?;
    match build {
        0 => version(&format!("{major}.{minor}.{patch}")),
        build => version(&format!("{major}.{minor}.{patch}.{build}")),
    }
}

fn version(text: &str) -> Option<Version> {
    let version: Version = text.parse().ok()?;
    version.check().is_ok().then_some(version)
}

fn number(data: &[u8], at: usize) -> Option<u16> {
    let bytes = data.get(at..at + 2)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn units(data: &[u8]) -> impl Iterator<Item = u16> + '_ {
    data.chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
}

fn aligned(offset: usize) -> usize {
    offset.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn told(program: &[u8]) -> Option<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(program).unwrap();
        version_of(&file).map(|version| version.to_string())
    }

    #[test]
    fn the_version_is_that_of_the_product_then_of_the_file_then_of_the_numbers() {
        let fixed = [1, 2, 3, 4];
        for (texts, fixed, wanted) in [
            (
                &[("FileVersion", "0.29.0"), ("ProductVersion", "0.30.0")][..],
                fixed,
                Some("0.30.0"),
            ),
            (&[("ProductVersion", "0.30.0-rc.1 ")], fixed, Some("0.30.0-rc.1")),
            (
                &[("CompanyName", "x"), ("FileVersion", "0.29.0")],
                fixed,
                Some("0.29.0"),
            ),
            (
                &[("ProductVersion", "0, 30, 0, 0"), ("FileVersion", "0.30.1")],
                fixed,
                Some("0.30.1"),
            ),
            (&[("ProductVersion", "")], fixed, Some("1.2.3.4")),
            (&[], [0, 30, 0, 0], Some("0.30.0")),
            (&[], [0; 4], None),
        ] {
            let program = sample::program(texts, fixed);
            assert_eq!(told(&program).as_deref(), wanted, "{texts:?}");
        }
    }

    #[test]
    fn what_is_no_windows_program_tells_nothing() {
        let elf = [b"\x7fELF".as_slice(), &[0; 200]].concat();
        for other in [&b""[..], b"MZ", b"#!/bin/sh\n", &elf, &[0; 4096]] {
            assert_eq!(told(other), None);
        }
    }

    #[test]
    fn a_damaged_program_tells_something_or_nothing_and_harms_nobody() {
        let program = sample::program(&[("ProductVersion", "0.30.0")], [0, 30, 0, 0]);
        for cut in 0..program.len() {
            told(&program[..cut]);
        }
        for at in 0..program.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut damaged = program.clone();
                damaged[at] = value;
                let mut file = std::io::Cursor::new(&damaged);
                if let Some(resource) = resource(&mut file) {
                    let root = Node::read(&resource);
                    root.map(|(root, _)| (text(&root, "ProductVersion"), numbers(root.value)));
                }
            }
        }
    }

    /// Programs of the least there must be of one.
    mod sample {
        const HEADERS: usize = 0x200;
        const ADDRESS: u32 = 0x1000;

        pub(super) fn program(texts: &[(&str, &str)], [major, minor, patch, build]: [u16; 4]) -> Vec<u8> {
            let mut fixed = vec![0_u8; 52];
            fixed[..4].copy_from_slice(&0xFEEF_04BD_u32.to_le_bytes());
            for at in [8, 16] {
                for (offset, number) in [(2, major), (0, minor), (6, patch), (4, build)] {
                    fixed[at + offset..at + offset + 2].copy_from_slice(&number.to_le_bytes());
                }
            }
            let texts: Vec<Vec<u8>> = texts
                .iter()
                .map(|(key, value)| node(key, 1, &wide(value), &[]))
                .collect();
            let language = node("040904b0", 1, &[], &texts);
            let version = node(
                "VS_VERSION_INFO",
                0,
                &fixed,
                &[node("StringFileInfo", 1, &[], &[language])],
            );
            executable(&directory(&version))
        }

        fn node(key: &str, kind: u16, value: &[u8], inner: &[Vec<u8>]) -> Vec<u8> {
            let length = if kind == 1 { value.len() / 2 } else { value.len() };
            let mut bytes = vec![0; 2];
            bytes.extend(u16::try_from(length).unwrap().to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(wide(key));
            pad(&mut bytes);
            bytes.extend(value);
            for inner in inner {
                pad(&mut bytes);
                bytes.extend(inner);
            }
            let whole = u16::try_from(bytes.len()).unwrap();
            bytes[..2].copy_from_slice(&whole.to_le_bytes());
            bytes
        }

        fn wide(text: &str) -> Vec<u8> {
            text.encode_utf16()
                .chain([0])
                .flat_map(u16::to_le_bytes)
                .collect()
        }

        fn pad(bytes: &mut Vec<u8>) {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }

        /// Three tables of one entry each, a data entry, and the resource.
        fn directory(resource: &[u8]) -> Vec<u8> {
            let mut bytes = Vec::new();
            for (id, next) in [(16_u32, 24_u32), (1, 48), (0x409, 72)] {
                bytes.extend([0; 14]);
                bytes.extend(1_u16.to_le_bytes());
                bytes.extend(id.to_le_bytes());
                let table = if next == 72 { 0 } else { 0x8000_0000 };
                bytes.extend((next | table).to_le_bytes());
            }
            let size = u32::try_from(resource.len()).unwrap();
            for number in [ADDRESS + 88, size, 0, 0] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(resource);
            bytes
        }

        /// A 64-bit PE file whose only section holds the resources.
        fn executable(resources: &[u8]) -> Vec<u8> {
            let size = u32::try_from(resources.len()).unwrap();
            let mut bytes = vec![0; 64];
            bytes[..2].copy_from_slice(b"MZ");
            bytes[60..].copy_from_slice(&64_u32.to_le_bytes());
            bytes.extend(b"PE\0\0");
            // The file header: machine, sections, …, the size of the optional header.
            bytes.extend(0x8664_u16.to_le_bytes());
            bytes.extend(1_u16.to_le_bytes());
            bytes.extend([0; 12]);
            bytes.extend(240_u16.to_le_bytes());
            bytes.extend([0; 2]);
            // The optional header: its magic, the number of directories, the third of which is that of resources.
            let mut optional = vec![0; 240];
            optional[..2].copy_from_slice(&0x20B_u16.to_le_bytes());
            optional[108..112].copy_from_slice(&16_u32.to_le_bytes());
            optional[128..132].copy_from_slice(&ADDRESS.to_le_bytes());
            optional[132..136].copy_from_slice(&size.to_le_bytes());
            bytes.extend(optional);
            bytes.extend(b".rsrc\0\0\0");
            for number in [size, ADDRESS, size, u32::try_from(HEADERS).unwrap()] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend([0; 16]);
            bytes.resize(HEADERS, 0);
            bytes.extend(resources);
            bytes
        }
    }
}

//! A second reader of all that the log proves, written from RFC 9162 and the C2SP texts and from nothing of the service:
//! another way through the tree, another library for signatures. What the service's own verifier says is compared with it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde_json::Value;

pub type Hash = Vec<u8>;

fn sha256(prefix: u8, parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[prefix]);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

/// Section 2.1.1, of a leaf.
pub fn leaf_hash(data: &[u8]) -> Hash {
    sha256(0, &[data])
}

fn node(left: &[u8], right: &[u8]) -> Hash {
    sha256(1, &[left, right])
}

/// The largest power of two smaller than `n`.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// Section 2.1.1: the hash of a list.
pub fn tree_head(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => digest::digest(&digest::SHA256, b"").as_ref().to_vec(),
        1 => leaves[0].clone(),
        n => node(
            &tree_head(&leaves[..split(n)]),
            &tree_head(&leaves[split(n)..]),
        ),
    }
}

/// Section 2.1.3.1: the path of a leaf.
pub fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    let n = leaves.len();
    if n == 1 {
        return vec![];
    }
    let k = split(n);
    let (mut path, other) = if m < k {
        (path(m, &leaves[..k]), tree_head(&leaves[k..]))
    } else {
        (path(m - k, &leaves[k..]), tree_head(&leaves[..k]))
    };
    path.push(other);
    path
}

/// Section 2.1.3.2.
pub fn includes(index: u64, size: u64, leaf: &[u8], path: &[Hash], root: &[u8]) -> bool {
    if index >= size {
        return false;
    }
    let (mut fn_, mut sn) = (index, size - 1);
    let mut r = leaf.to_vec();
    for p in path {
        if sn == 0 {
            return false;
        }
        if fn_ % 2 == 1 || fn_ == sn {
            r = node(p, &r);
            while fn_ % 2 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            r = node(&r, p);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    sn == 0 && r == root
}

/// Section 2.1.4.2.
pub fn consistent(
    first: u64,
    second: u64,
    first_root: &[u8],
    second_root: &[u8],
    path: &[Hash],
) -> bool {
    if first == second {
        return path.is_empty() && first_root == second_root;
    }
    if first == 0 || first > second || path.is_empty() {
        return false;
    }
    let mut path = path.to_vec();
    if first.is_power_of_two() {
        path.insert(0, first_root.to_vec());
    }
    let (mut fn_, mut sn) = (first - 1, second - 1);
    while fn_ % 2 == 1 {
        fn_ >>= 1;
        sn >>= 1;
    }
    let (mut fr, mut sr) = (path[0].clone(), path[0].clone());
    for c in &path[1..] {
        if sn == 0 {
            return false;
        }
        if fn_ % 2 == 1 || fn_ == sn {
            fr = node(c, &fr);
            sr = node(c, &sr);
            while fn_ % 2 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            sr = node(&sr, c);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    sn == 0 && fr == first_root && sr == second_root
}

/// The text of a signed note, if the key `NAME+ID+KEY` has signed it.
pub fn open_note(note: &str, key: &str) -> Option<String> {
    let (name, rest) = key.split_once('+')?;
    let (_, public) = rest.split_once('+')?;
    let public = STANDARD.decode(public).ok()?;
    let mut hashed = name.as_bytes().to_vec();
    hashed.push(b'\n');
    hashed.extend(&public);
    let id = digest::digest(&digest::SHA256, &hashed).as_ref()[..4].to_vec();
    let (text, signatures) = note.rsplit_once("\n\n")?;
    let text = format!("{text}\n");
    let wanted = format!("\u{2014} {name} ");
    signatures.lines().find_map(|line| {
        let signature = STANDARD.decode(line.strip_prefix(&wanted)?).ok()?;
        let signed = signature.strip_prefix(&id[..])?;
        let public =
            ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &public[1..]);
        public.verify(text.as_bytes(), signed).ok()
    })?;
    (signatures.ends_with('\n')).then_some(text)
}

/// Size and root of a signed checkpoint.
pub fn checkpoint(note: &str, key: &str) -> Option<(u64, Hash)> {
    let text = open_note(note, key)?;
    let lines: Vec<&str> = text.lines().collect();
    let [origin, size, root] = lines[..] else {
        return None;
    };
    let is_named = key.split_once('+')?.0 == origin;
    is_named.then_some((size.parse().ok()?, STANDARD.decode(root).ok()?))
}

/// Whether a bundle proves what it says. Every node of the tree that the bundle gives is put at its place, first leaf
/// and number of leaves; the root is computed from the top down.
pub fn proves(bundle: &[u8], key: &str, previous: Option<&str>) -> Option<()> {
    let bundle = std::str::from_utf8(bundle).ok()?;
    let mut lines = bundle.strip_suffix('\n')?.split('\n');
    let first = lines.next()?;
    let header: Value = serde_json::from_str(first).ok()?;
    let text = |name: &str| header[name].as_str();
    let (size, root) = checkpoint(text("checkpoint")?, key)?;
    let shown = match &header["previous"] {
        Value::Null => None,
        note => Some(checkpoint(note.as_str()?, key)?),
    };
    let events = header["events"].as_u64()?;
    let (kind, id) = (text("stream_type")?, text("stream_id")?);
    let stated = format!(
        "mana-auth stream statement 1\n{}\n{kind}\n{id}\n{events}\n{size}\n{}\n",
        key.split_once('+')?.0,
        STANDARD.encode(&root)
    );
    (open_note(text("statement")?, key)? == stated).then_some(())?;
    // Exactly these fields, in this order, without a space.
    let quoted = |name: &str| header[name].to_string();
    let again = format!(
        "{{\"form\":\"mana-auth stream bundle 1\",\"stream_type\":{},\"stream_id\":{},\"events\":{events},\"checkpoint\":{},\"statement\":{},\"previous\":{}}}",
        quoted("stream_type"),
        quoted("stream_id"),
        quoted("checkpoint"),
        quoted("statement"),
        quoted("previous")
    );
    (again == first).then_some(())?;

    let mut nodes: BTreeMap<(u64, u64), Hash> = BTreeMap::new();
    let (mut at, mut found) = (0, 0);
    for line in lines {
        let value: Value = serde_json::from_str(line).ok()?;
        if let Some(gap) = value.as_array() {
            let [until, hashes] = &gap[..] else {
                return None;
            };
            let until = until
                .as_u64()
                .filter(|until| at < *until && *until <= size)?;
            let again = value.to_string();
            (again == line).then_some(())?;
            let mut hashes = hashes.as_array()?.iter();
            while at < until {
                let end = match &shown {
                    Some((cut, _)) if at < *cut && *cut < until => *cut,
                    _ => until,
                };
                // The largest perfect subtree that begins here and does not lead further.
                let mut leaves = 1;
                while at % (2 * leaves) == 0 && at + 2 * leaves <= end {
                    leaves *= 2;
                }
                let hash = STANDARD.decode(hashes.next()?.as_str()?).ok()?;
                nodes.insert((at, leaves), hash);
                at += leaves;
            }
            hashes.next().is_none().then_some(())?;
        } else {
            let is = |name: &str, wanted: &str| value[name].as_str() == Some(wanted);
            (value.as_object()?.len() == 10 && at < size).then_some(())?;
            (value["position"].as_u64()? == at + 1).then_some(())?;
            let sequence = value["sequence"].as_u64()?;
            if is("aggregate_type", kind) && is("aggregate_id", id) {
                found += 1;
                (sequence == found).then_some(())?;
            }
            nodes.insert((at, 1), leaf_hash(line.as_bytes()));
            at += 1;
        }
    }
    (at == size && found == events && range(&nodes, 0, size)? == root).then_some(())?;
    let previous = match previous {
        None => None,
        Some(note) => Some(checkpoint(note, key)?),
    };
    for (earlier, root) in shown.iter().chain(&previous) {
        (*earlier <= size && range(&nodes, 0, *earlier)? == *root).then_some(())?;
    }
    Some(())
}

/// The hash over some leaves, as far as the nodes that are known give it.
fn range(nodes: &BTreeMap<(u64, u64), Hash>, first: u64, leaves: u64) -> Option<Hash> {
    if leaves == 0 {
        return Some(tree_head(&[]));
    }
    if let Some(hash) = nodes.get(&(first, leaves)) {
        return Some(hash.clone());
    }
    (leaves > 1).then_some(())?;
    let left = leaves.next_power_of_two() / 2;
    Some(node(
        &range(nodes, first, left)?,
        &range(nodes, first + left, leaves - left)?,
    ))
}

#[test]
fn the_second_reader_reads_its_own_proofs() {
    let leaves: Vec<Hash> = (0..40_u8).map(|n| leaf_hash(&[n])).collect();
    for size in 1..=40_usize {
        let root = tree_head(&leaves[..size]);
        for index in 0..size {
            let proof = path(index, &leaves[..size]);
            let check =
                |index, leaf: &[u8]| includes(index as u64, size as u64, leaf, &proof, &root);
            assert!(check(index, &leaves[index]));
            assert!(!check(index, &leaf_hash(b"other")));
            assert!(!check(index + 1, &leaves[index]) || size == 1 && index + 1 == 0);
        }
    }
}

//! RFC 6962 reference vectors, and properties over trees of many sizes.

use proptest::prelude::*;

use super::{proof::split, *};

/// The reference tree of certificate-transparency: eight leaves and the root at every size.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hash(text: &str) -> Hash {
    text.parse().unwrap()
}

fn reference() -> Vec<Hash> {
    LEAVES.iter().map(|l| leaf_hash(&hex::decode(l).unwrap())).collect()
}

fn leaves(n: u64) -> Vec<Hash> {
    (0..n).map(|i| leaf_hash(&i.to_le_bytes())).collect()
}

/// The definition of RFC 6962 §2.1, word for word.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(usize::try_from(split(many.len() as u64)).unwrap());
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// A store: leaves at level 0, and whatever the frontier said was to be kept.
fn stored(leaves: &[Hash]) -> Nodes {
    let (mut frontier, mut nodes) = (Frontier::default(), Nodes::new());
    for (index, leaf) in leaves.iter().enumerate() {
        nodes.insert(0, index as u64, *leaf);
        for node in frontier.append(*leaf) {
            nodes.insert(node.level, node.index, node.hash);
        }
    }
    nodes
}

/// Only what the plan asks for.
fn fetch(store: &Nodes, plan: &[Range]) -> Nodes {
    let mut nodes = Nodes::new();
    for range in plan {
        assert!(range.level % STEP == 0 && range.count <= 256, "{range:?}");
        nodes.insert_range(*range, (range.start..range.start + range.count).map(|i| store.0[&(range.level, i)]));
    }
    nodes
}

fn flipped(hash: &Hash, bit: usize) -> Hash {
    let mut bytes = hash.0;
    bytes[bit / 8 % 32] ^= 1 << (bit % 8);
    Hash(bytes)
}

#[test]
fn the_reference_tree_has_the_published_roots() {
    let leaves = reference();
    for (size, root) in ROOTS.iter().enumerate() {
        assert_eq!(root_of(&leaves[..size]).to_string(), *root, "size {size}");
    }
}

#[test]
fn the_reference_tree_has_the_published_proofs() {
    let nodes = stored(&reference());
    let path = inclusion_proof(5, 8, &nodes).unwrap();
    let want = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        ROOTS[4],
    ];
    assert_eq!(path, want.map(hash));
    assert_eq!(verify_inclusion(&reference()[5], 5, 8, &path, &hash(ROOTS[8])), Ok(()));
    assert_eq!(verify_inclusion(&reference()[4], 5, 8, &path, &hash(ROOTS[8])), Err(MerkleError::Mismatch));

    let path = consistency_proof(6, 8, &nodes).unwrap();
    let want = ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a", want[1], ROOTS[4]];
    assert_eq!(path, want.map(hash));
    assert_eq!(verify_consistency((6, &hash(ROOTS[6])), (8, &hash(ROOTS[8])), &path), Ok(()));
    assert!(verify_consistency((6, &hash(ROOTS[5])), (8, &hash(ROOTS[8])), &path).is_err());
}

#[test]
fn the_frontier_agrees_with_the_definition_at_every_size() {
    let leaves = leaves(600);
    let mut frontier = Frontier::default();
    for size in 0..=600 {
        assert_eq!(frontier.root(), naive_root(&leaves[..size]), "size {size}");
        assert_eq!(Frontier::from_bytes(&frontier.to_bytes()).as_ref(), Ok(&frontier));
        if size < 600 {
            let complete = frontier.append(leaves[size]);
            assert_eq!(complete.len(), usize::from((size + 1) % 256 == 0), "size {size}");
        }
    }
}

#[test]
fn damaged_frontiers_are_refused() {
    let mut frontier = Frontier::default();
    for leaf in leaves(5) {
        frontier.append(leaf);
    }
    let bytes = frontier.to_bytes();
    for end in 0..bytes.len() {
        assert_eq!(Frontier::from_bytes(&bytes[..end]), Err(MerkleError::BadFrontier), "{end}");
    }
}

#[test]
fn nothing_outside_the_tree_can_be_proven() {
    let nodes = stored(&leaves(3));
    assert!(inclusion_proof(3, 3, &nodes).is_err());
    assert!(inclusion_proof(0, 0, &nodes).is_err());
    assert!(consistency_proof(4, 3, &nodes).is_err());
    assert_eq!(inclusion_proof(0, 4, &nodes), Err(MerkleError::Missing { level: 0, index: 3 }));
    let root = root_of(&leaves(3));
    assert!(verify_inclusion(&leaves(3)[0], 3, 3, &[], &root).is_err());
    assert!(verify_consistency((4, &root), (3, &root), &[]).is_err());
    assert!(verify_consistency((1, &root), (3, &root), &[]).is_err());
    assert!(verify_consistency((0, &empty_root()), (3, &root), &[]).is_ok());
    assert!(verify_consistency((0, &root), (3, &root), &[]).is_err());
}

#[test]
fn a_proof_in_a_large_tree_asks_for_few_ranges() {
    let plan = inclusion_plan(123_456_789, 1_000_000_000).unwrap();
    assert!(plan.len() <= 8 && plan.iter().map(|r| r.count).sum::<u64>() <= 8 * 256, "{plan:?}");
    let plan = consistency_plan(123_456_789, 1_000_000_000).unwrap();
    assert!(plan.len() <= 8, "{plan:?}");
}

#[test]
fn every_proof_in_small_trees_holds() {
    let leaves = leaves(40);
    let store = stored(&leaves);
    for size in 1..=40 {
        let root = naive_root(&leaves[..usize::try_from(size).unwrap()]);
        for index in 0..size {
            let path = inclusion_proof(index, size, &store).unwrap();
            for other in 0..size {
                let leaf = &leaves[usize::try_from(index).unwrap()];
                assert_eq!(verify_inclusion(leaf, other, size, &path, &root).is_ok(), other == index);
            }
        }
        for old in 0..=size {
            let path = consistency_proof(old, size, &store).unwrap();
            let old_root = naive_root(&leaves[..usize::try_from(old).unwrap()]);
            assert_eq!(verify_consistency((old, &old_root), (size, &root), &path), Ok(()), "{old} in {size}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn inclusion_proofs_hold_and_no_flipped_bit_does(size in 1_u64..3000, at in any::<u64>(), bit in 0_usize..256) {
        let index = at % size;
        let leaves = leaves(size);
        let (leaf, root, store) = (leaves[usize::try_from(index).unwrap()], naive_root(&leaves), stored(&leaves));
        let nodes = fetch(&store, &inclusion_plan(index, size).unwrap());
        let path = inclusion_proof(index, size, &nodes).unwrap();
        prop_assert_eq!(verify_inclusion(&leaf, index, size, &path, &root), Ok(()));
        prop_assert!(verify_inclusion(&flipped(&leaf, bit), index, size, &path, &root).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &path, &flipped(&root, bit)).is_err());
        for i in 0..path.len() {
            let mut bad = path.clone();
            bad[i] = flipped(&bad[i], bit);
            prop_assert!(verify_inclusion(&leaf, index, size, &bad, &root).is_err());
            bad.remove(i);
            prop_assert!(verify_inclusion(&leaf, index, size, &bad, &root).is_err());
        }
        let longer = [&path[..], &[root]].concat();
        prop_assert!(verify_inclusion(&leaf, index, size, &longer, &root).is_err());
    }

    #[test]
    fn consistency_proofs_hold_and_no_flipped_bit_does(new in 1_u64..3000, at in any::<u64>(), bit in 0_usize..256) {
        let old = 1 + at % new;
        let leaves = leaves(new);
        let (old_root, new_root) = (naive_root(&leaves[..usize::try_from(old).unwrap()]), naive_root(&leaves));
        let store = stored(&leaves);
        let path = consistency_proof(old, new, &fetch(&store, &consistency_plan(old, new).unwrap())).unwrap();
        prop_assert_eq!(root(old, &fetch(&store, &root_plan(old).unwrap())), Ok(old_root));
        prop_assert_eq!(verify_consistency((old, &old_root), (new, &new_root), &path), Ok(()));
        let bad_root = flipped(&old_root, bit);
        prop_assert!(verify_consistency((old, &bad_root), (new, &new_root), &path).is_err());
        let bad_root = flipped(&new_root, bit);
        prop_assert!(verify_consistency((old, &old_root), (new, &bad_root), &path).is_err());
        for i in 0..path.len() {
            let mut bad = path.clone();
            bad[i] = flipped(&bad[i], bit);
            prop_assert!(verify_consistency((old, &old_root), (new, &new_root), &bad).is_err());
            bad.remove(i);
            prop_assert!(verify_consistency((old, &old_root), (new, &new_root), &bad).is_err());
        }
    }
}

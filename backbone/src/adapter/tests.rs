use std::collections::BTreeMap;

use checkpoints::{Adapter, AdapterConfig, StoredTensor, TargetModules};

use super::{fitting_modules, matches_module, remarks};
use crate::ModelFiles;

/// PEFT's `Found missing adapter keys while loading the checkpoint`.
#[test]
fn modules_that_the_configuration_names_and_the_file_lacks_are_told() {
    let config = ModelFiles::Embedded.config().expect("its configuration");
    let sides: BTreeMap<String, [usize; 2]> = config.adaptable().into_iter().collect();
    let adapter = |layers: std::ops::Range<usize>| {
        let mut tensors = BTreeMap::new();
        for layer in layers {
            let path = format!("model.layers.{layer}.self_attn.q_proj");
            let [outputs, inputs] = sides[&path];
            tensors.insert(Adapter::key_a(&path), StoredTensor::from_f32([2, inputs], &vec![0.1; 2 * inputs]));
            tensors.insert(Adapter::key_b(&path), StoredTensor::from_f32([outputs, 2], &vec![0.1; 2 * outputs]));
        }
        Adapter { config: AdapterConfig::new(2, 4.0, vec!["q_proj".into()]), tensors }
    };
    assert_eq!(remarks(&adapter(0..4), &config).expect("modules"), Vec::<String>::new());
    let told = remarks(&adapter(0..3), &config).expect("modules");
    let expected =
        "nothing for 1 of the modules that its `target_modules` names, the first `model.layers.3.self_attn.q_proj`";
    assert!(told.len() == 1 && told[0].contains(expected), "{told:?}");
    // Whole paths, as layers that were picked are kept, and patterns name what is there.
    let mut picked = adapter(0..3);
    let paths = (0..3).map(|layer| format!("model.layers.{layer}.self_attn.q_proj"));
    picked.config.target_modules = TargetModules::Names(paths.collect());
    assert_eq!(remarks(&picked, &config).expect("modules"), Vec::<String>::new());
}

/// As `torch.compile` names the modules of a model.
#[test]
fn names_of_a_compiled_model_are_told() {
    let config = ModelFiles::Embedded.config().expect("its configuration");
    let path = "_orig_mod.model.layers.0.self_attn.q_proj";
    let tensors = BTreeMap::from([
        (Adapter::key_a(path), StoredTensor::from_f32([2, 3], &[0.1; 6])),
        (Adapter::key_b(path), StoredTensor::from_f32([3, 2], &[0.1; 6])),
    ]);
    let adapter = Adapter { config: AdapterConfig::new(2, 4.0, vec!["q_proj".into()]), tensors };
    let fault = fitting_modules(&adapter, &config).expect_err("no such module").to_string();
    assert!(fault.contains("take `_orig_mod.` out of them"), "{fault}");
}

#[test]
fn a_target_matches_a_whole_last_name_only() {
    assert!(matches_module("model.layers.0.mlp.up_proj", "up_proj"));
    assert!(matches_module("model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj"));
    assert!(!matches_module("model.layers.10.mlp.up_proj", "0.mlp.up_proj"));
    assert!(!matches_module("model.layers.0.mlp.up_proj", "p_proj"));
}

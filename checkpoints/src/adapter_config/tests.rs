//! Configurations as PEFT and other programs write them, and what is said of those that cannot be read.

use super::*;

fn with(key: &str, value: Value) -> Result<AdapterConfig, Vec<Fault>> {
    let mut keys = AdapterConfig::new(4, 8.0, vec!["q_proj".into()]).to_json();
    keys[key] = value;
    AdapterConfig::from_json(keys.to_string().as_bytes())
}

#[test]
fn what_is_written_is_read_back_and_a_whole_alpha_is_an_integer() {
    let mut config = AdapterConfig::new(4, 8.0, vec!["q_proj".into(), "down_proj".into()]);
    config.base_model_name_or_path = Some("org/name".into());
    config.use_rslora = true;
    config.rank_pattern = [("layers.1.q_proj".to_string(), 2), ("q_proj".to_string(), 3)].into_iter().collect();
    config.alpha_pattern = [("z".to_string(), 0.5), ("a".to_string(), 16.0)].into_iter().collect();
    let written = config.to_json();
    assert_eq!(AdapterConfig::from_json(written.to_string().as_bytes()), Ok(config));
    assert_eq!(written["lora_alpha"].to_string(), "8");
    assert_eq!(written["alpha_pattern"].to_string(), r#"{"z":0.5,"a":16}"#);
}

#[test]
fn keys_that_change_the_mathematics_are_refused_by_name() {
    let cases = [
        ("peft_type", json!("IA3")),
        ("bias", json!("lora_only")),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("layer_replication", json!([[0, 2]])),
        ("lora_bias", json!(true)),
        ("use_qalora", json!(true)),
        ("alora_invocation_tokens", json!([1])),
        ("target_parameters", json!(["x"])),
        ("trainable_token_indices", json!([5])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!("mica")),
        ("task_type", json!("SEQ_CLS")),
        ("r", json!(0)),
        ("r", json!(-1)),
        ("lora_alpha", json!("eight")),
        ("lora_alpha", json!(0)),
        ("lora_alpha", json!(-8)),
        ("lora_alpha", json!(1e308)),
        ("lora_alpha", json!(1e-300)),
        ("alpha_pattern", json!({"q_proj": 8, "v_proj": 0.0})),
        ("rank_pattern", json!({"q_proj": "four"})),
        ("alpha_pattern", json!([1])),
    ];
    for (key, value) in cases {
        let faults = with(key, value.clone()).expect_err(key);
        assert_eq!(faults.len(), 1, "{key}: {faults:?}");
        let named = if key == "r" { "r" } else { key };
        assert!(faults[0].message.contains(named), "{key}: {}", faults[0].message);
    }
}

#[test]
fn keys_of_other_versions_are_no_fault() {
    for (key, value) in [
        ("modules_to_save", json!([])),
        ("rank_pattern", Value::Null),
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", json!("Gaussian")),
        ("task_type", json!("FEATURE_EXTRACTION")),
        ("target_modules", Value::Null),
        ("target_modules", json!("all-linear")),
        ("qalora_group_size", json!(16)),
        ("a_key_of_tomorrow", json!(3)),
    ] {
        with(key, value).expect(key);
    }
    let short = br#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8.5}"#;
    assert_eq!(AdapterConfig::from_json(short).unwrap().lora_alpha, 8.5);
}

/// Python's `json` writes them, and PEFT reads them.
#[test]
fn numbers_that_json_does_not_have_are_null_where_nothing_reads_them_and_named_elsewhere() {
    let read = |extra: &str| {
        let text = format!(r#"{{"peft_type": "LORA", "r": 4, "lora_alpha": 8, {extra}}}"#);
        AdapterConfig::from_json(text.as_bytes())
    };
    let plain = read(r#""qalora_group_size": 16"#);
    for extra in [
        r#""qalora_group_size": NaN"#,
        r#""loftq_config": {"iterations": Infinity}"#,
        r#""peft_version": "\ud83d""#,
        r#""a_key_of_tomorrow": -Infinity"#,
        r#""eva_config": {"tau": 1e999}, "r": 5, "r": 4"#,
    ] {
        assert_eq!(read(extra), plain, "{extra}");
    }
    for (extra, name) in [
        (r#""lora_dropout": NaN"#, "`lora_dropout` is `NaN`"),
        (r#""lora_alpha": Infinity"#, "`lora_alpha` is `Infinity`"),
        (r#""alpha_pattern": {"q_proj": 1e400}"#, "`alpha_pattern.q_proj` is `1e400`"),
        (r#""target_modules": ["q_proj", "\udc00"]"#, r"`target_modules.1` holds `\udc00`"),
        (r#""bias": NaN"#, "`bias` is `NaN`"),
        (r#""kasa_config": {"beta": NaN}"#, "`kasa_config.beta` is `NaN`"),
    ] {
        let faults = read(extra).expect_err(extra);
        assert!(faults.len() == 1 && faults[0].message.starts_with(name), "{extra}: {faults:?}");
        assert!(faults[0].hint.is_some());
    }
}

#[test]
fn the_scale_follows_rslora_and_the_first_matching_pattern() {
    let mut config = AdapterConfig::new(4, 8.0, vec!["q_proj".into()]);
    assert_eq!(config.scale("model.layers.0.self_attn.q_proj"), 2.0);
    config.use_rslora = true;
    assert_eq!(config.scale("model.layers.0.self_attn.q_proj"), 4.0);
    config.use_rslora = false;
    config.rank_pattern =
        [(r"layers\.[01]\.self_attn\.q_proj".to_string(), 2), ("q_proj".to_string(), 8)].into_iter().collect();
    config.alpha_pattern = [("k_proj|v_proj".to_string(), 1.0)].into_iter().collect();
    assert_eq!(config.scale("model.layers.1.self_attn.q_proj"), 4.0);
    assert_eq!(config.scale("model.layers.2.self_attn.q_proj"), 1.0);
    assert_eq!(config.scale("model.layers.2.self_attn.v_proj"), 0.25);
    // PEFT asks for a dot before the match: `xq_proj` is another module.
    assert_eq!(config.rank("model.xq_proj"), 4);
    assert_eq!(config.rank("q_proj"), 8);
}

#[test]
fn patterns_that_decide_about_nothing_are_known() {
    let mut config = AdapterConfig::new(4, 8.0, vec!["q_proj".into()]);
    let patterns = ["q_proj", "layers.1.q_proj", "k_proj"];
    config.rank_pattern = patterns.iter().map(|pattern| (pattern.to_string(), 2)).collect();
    config.alpha_pattern.insert("o_proj".into(), 1.0);
    assert_eq!(
        config.idle_patterns(&["layers.0.q_proj", "layers.1.q_proj"]),
        [("rank_pattern", patterns[1]), ("rank_pattern", patterns[2]), ("alpha_pattern", "o_proj")]
    );
}

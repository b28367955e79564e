use super::*;

fn llama(extra: &str) -> String {
    of("llama", extra)
}

fn of(model_type: &str, extra: &str) -> String {
    format!(
        r#"{{"model_type": "{model_type}", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 172,
        "num_hidden_layers": 5, "num_attention_heads": 8 {extra}}}"#
    )
}

#[test]
fn both_spellings_of_the_rotary_settings_are_read() {
    let old = r#", "rope_theta": 500000.0, "rope_scaling": {"type": "linear", "factor": 2.0}"#;
    let new = r#", "rope_parameters": {"rope_theta": 500000.0, "rope_type": "linear", "factor": 2.0}"#;
    let old = Config::parse(&llama(old), "c").expect("old spelling");
    let new = Config::parse(&llama(new), "c").expect("new spelling");
    assert_eq!(old, new);
    assert_eq!((old.rope.theta, old.head_dim, old.num_key_value_heads), (500000.0, 8, 8));
    assert_eq!(old.rope.scaling, RopeScaling::Linear { factor: 2.0 });
}

#[test]
fn faults_name_the_field() {
    let message = |text: &str| Config::parse(text, "m/config.json").expect_err("a fault").to_string();
    assert!(message("{").contains("not valid JSON"));
    assert!(message("[]").contains("JSON object"));
    assert!(message(r#"{"model_type": "lama"}"#).contains("nearest is `llama`"));
    assert!(message(r#"{"model_type": "llama"}"#).contains("`hidden_size` is missing"));
    assert!(message(&llama(r#", "num_key_value_heads": 3"#)).contains("evenly"));
    assert!(message(&llama(r#", "hidden_act": "gelu""#)).contains("`hidden_act` is `gelu`"));
    assert!(message(&llama(r#", "final_logit_softcapping": 30.0"#)).contains("final_logit_softcapping"));
    assert!(message(&llama(r#", "rope_scaling": {"rope_type": "magic"}"#)).contains("magic"));
    assert!(message(&llama(r#", "head_dim": 7"#)).contains("even"));
    let quantised = Config::parse(&llama(r#", "quantization_config": {"bits": 4}"#), "c").expect_err("a fault");
    assert!(quantised.message.contains("quantised already"), "{}", quantised.message);
    assert!(quantised.hint.is_some_and(|hint| hint.contains("model.quantize")));
}

/// As other trainers and older versions of transformers write them.
#[test]
fn fields_that_change_nothing_are_passed_over() {
    let extra = r#", "unsloth_fixed": true, "unsloth_version": "2025.1", "_attn_implementation_autoset": true,
        "max_length": 20, "temperature": 0.6, "do_sample": true, "num_labels": 2, "bad_words_ids": null,
        "model_max_length": 4096, "rope_scaling": {"type": "linear", "factor": 2.0, "finetuned": true}"#;
    let plain = Config::parse(&llama(r#", "rope_scaling": {"type": "linear", "factor": 2.0}"#), "c");
    assert_eq!(Config::parse(&llama(extra), "c"), plain);
    plain.expect("a configuration");
}

/// Numbers that JSON does not have, as Python's `json` and as transformers 5 write them; halves of surrogate pairs; the last
/// of two equal keys.
#[test]
fn json_that_python_writes_is_read() {
    let plain = Config::parse(&llama(r#", "rms_norm_eps": 1e-5"#), "c").expect("a configuration");
    for extra in [
        r#""initializer_range": NaN"#,
        r#""max_length": Infinity, "temperature": -Infinity"#,
        r#""a_key_of_tomorrow": NaN"#,
        r#""time_step_limit": {"__float__": "Infinity"}"#,
        r#""_name_or_path": "models/\ud83d", "architectures": ["\udc00"]"#,
        r#""task_specific_params": null, "bos_token_id": 1e999"#,
        r#""rms_norm_eps": 2e-5"#,
    ] {
        let text = llama(&format!(r#", {extra}, "rms_norm_eps": 1e-5"#));
        assert_eq!(Config::parse(&text, "c").expect(extra), plain, "{extra}");
    }
    for (extra, expected) in [
        (r#""rms_norm_eps": NaN"#, "`rms_norm_eps` must be a number, found `NaN`"),
        (r#""rms_norm_eps": {"__float__": "-Infinity"}"#, "`rms_norm_eps` must be a number, found `-Infinity`"),
        (r#""rope_theta": 1e999"#, "`rope_theta` must be a number, found `1e999`"),
        (r#""num_key_value_heads": Infinity"#, "`num_key_value_heads` must be a whole number, found `Infinity`"),
        (r#""attention_bias": NaN"#, "`attention_bias` must be true or false, found `NaN`"),
        (r#""hidden_act": "si\ud800lu""#, "`hidden_act`"),
        (r#""rope_scaling": {"type": "linear", "factor": NaN}"#, "`rope_scaling.factor` must be a number, found `NaN`"),
        (r#""rope_scaling": Infinity"#, "`rope_scaling` must be an object, found `Infinity`"),
        (r#""quantization_config": NaN, "attention_dropout": NaN"#, "`attention_dropout` must be a number"),
    ] {
        let message = Config::parse(&llama(&format!(", {extra}")), "c").expect_err(extra).to_string();
        assert!(message.contains(expected), "{extra}: {message}");
    }
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 700\n";
    let fault = Config::parse(pointer, "m/config.json").expect_err("a pointer").to_string();
    assert!(fault.starts_with("m/config.json: this is a Git LFS pointer") && fault.contains("lfs pull"), "{fault}");
}

/// Beside what a model is, as other programs write it; transformers 5.23 gives the same logits with and without each.
#[test]
fn values_that_say_what_a_model_is_anyway_are_accepted() {
    let cases: [(&str, &[&str]); 12] = [
        (
            "llama",
            &[
                r#""hidden_act": "swish""#,
                r#""hidden_activation": "silu", "activation_function": "swish""#,
                r#""attention_probs_dropout_prob": 0.0, "attn_pdrop": 0, "classifier_dropout": 0.0"#,
                r#""num_local_experts": 0, "num_experts_per_tok": 0, "mlp_only_layers": []"#,
                r#""embedding_multiplier": 1.0, "residual_multiplier": 1, "logits_scaling": 1.0, "logit_scale": 1.0"#,
                r#""attention_multiplier": 0.35355339059327373, "query_pre_attn_scalar": 8"#,
                r#""partial_rotary_factor": 1.0, "rotary_pct": 1.0, "rotary_dim": 8"#,
                r#""qk_norm": false, "use_qk_norm": false, "qkv_bias": false, "use_bias": false"#,
                r#""sliding_window": 4096, "use_sliding_window": false, "max_window_layers": 28"#,
                r#""sliding_window": 2048"#,
                r#""layer_types": ["full_attention", "full_attention", "full_attention", "full_attention", "full_attention"]"#,
                r#""num_layers": 5, "n_embd": 64, "num_heads": 8, "num_kv_heads": 8, "kv_channels": 8, "ffn_hidden_size": 172"#,
                r#""attn_logit_softcapping": 0, "final_logit_softcapping": 0.0"#,
                r#""norm_eps": 1e-6, "layer_norm_epsilon": 1e-6, "use_rope": true, "padded_vocab_size": 512"#,
                r#""seq_length": 8192, "n_positions": 1024, "prefix": "a", "use_flash_attn": true, "name_or_path": "x""#,
                r#""rope_scaling": {"type": "default", "factor": 1.0}"#,
                r#""rope_scaling": {"rope_type": "default", "original_max_position_embeddings": 512, "attention_factor": 1.0}"#,
                r#""rope_scaling": {}, "rope_parameters": {"rope_type": "default", "rope_theta": 10000}"#,
                r#""rope_theta": 10000.0, "rope_parameters": {"rope_theta": 10000.0}"#,
                r#""pruned_heads": {}, "tie_embeddings": false"#,
            ],
        ),
        ("mistral", &[r#""use_sliding_window": true, "max_window_layers": 0"#]),
        ("qwen2", &[r#""qkv_bias": true"#, r#""attention_bias": true, "attention_out_bias": false, "qk_norm": false"#]),
        ("qwen3", &[r#""use_qk_norm": true, "qk_layernorm": true"#, r#""mlp_bias": false, "max_window_layers": 5"#]),
        (
            "gemma",
            &[
                r#""hidden_act": "gelu_new""#,
                r#""hidden_act": "gelu", "hidden_activation": "gelu_fast""#,
                r#""hidden_activation": "gelu_python_tanh", "embedding_multiplier": 8.0"#,
                r#""query_pre_attn_scalar": 256"#,
            ],
        ),
        (
            "gemma2",
            &[
                r#""sliding_window_pattern": 2, "_sliding_window_pattern": 2"#,
                r#""hidden_activation": "gelu_new", "hidden_act": "gelu_pytorch_tanh""#,
            ],
        ),
        (
            "gemma3_text",
            &[
                r#""qk_norm": true, "hidden_activation": "gelu_fast""#,
                r#""rope_scaling": {"rope_type": "default"}, "rope_parameters": {"full_attention": {"rope_type": "default"}}"#,
            ],
        ),
        ("olmo", &[r#""rms_norm_eps": 1e-5, "layer_norm_eps": 1e-05"#, r#""clip_qkv": null, "hidden_act": "swish""#]),
        ("olmo2", &[r#""qk_norm": true, "clip_qkv": null, "use_bias": false"#]),
        ("granite", &[r#""num_local_experts": 0, "attn_pdrop": 0.0, "scale_emb": 1.0, "partial_rotary_factor": 1"#]),
        ("phi3", &[r#""qkv_bias": false, "mlp_bias": false, "num_layers": 5, "use_sliding_window": false"#]),
        ("phi3", &[r#""rope_scaling": {"type": "default"}, "rope_parameters": {"rope_type": "default"}"#]),
    ];
    for (family, fields) in cases {
        let plain = Config::parse(&of(family, ""), "c").expect("a configuration");
        for extra in fields {
            let read = Config::parse(&of(family, &format!(", {extra}")), "c");
            assert_eq!(read.unwrap_or_else(|fault| panic!("{family} {extra}: {fault}")), plain, "{family} {extra}");
        }
    }
    let twice = r#", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_theta": 500000.0, "rope_type": "linear", "factor": 2}"#;
    let once = r#", "rope_parameters": {"rope_theta": 500000.0, "rope_type": "linear", "factor": 2}"#;
    assert_eq!(Config::parse(&llama(twice), "c"), Config::parse(&llama(once), "c"));
}

/// The same fields with other values.
#[test]
fn values_that_say_something_else_are_refused_by_name() {
    let cases: [(&str, &[&str]); 6] = [
        (
            "llama",
            &[
                r#""hidden_activation": "gelu""#,
                r#""attn_pdrop": 0.1"#,
                r#""num_local_experts": 8"#,
                r#""embedding_multiplier": 12.0"#,
                r#""logits_scaling": 8.0"#,
                r#""attention_multiplier": 0.125"#,
                r#""rotary_pct": 0.25"#,
                r#""qk_norm": true"#,
                r#""qkv_bias": true"#,
                r#""sliding_window": 1024"#,
                r#""use_sliding_window": true"#,
                r#""layer_types": ["full_attention"]"#,
                r#""layer_types": ["full_attention", "full_attention", "linear_attention", "full_attention", "full_attention"]"#,
                r#""num_layers": 6"#,
                r#""num_kv_heads": 2"#,
                r#""norm_eps": 1e-5"#,
                r#""use_rope": false"#,
                r#""tie_embeddings": true"#,
                r#""rope_scaling": {"type": "default", "factor": 8.0}"#,
                r#""rope_scaling": {"type": "linear", "factor": 2.0, "attention_factor": 2.0}"#,
            ],
        ),
        ("mistral", &[r#""max_window_layers": 2"#, r#""sliding_window": 64, "sliding_window_size": 32"#]),
        ("qwen2", &[r#""attention_out_bias": true"#, r#""use_qk_norm": true"#]),
        ("gemma2", &[r#""sliding_window_pattern": 6"#, r#""hidden_activation": "gelu""#]),
        ("olmo", &[r#""rms_norm_eps": 1e-6"#]),
        ("granite", &[r#""num_experts": 4"#]),
    ];
    for (family, fields) in cases {
        for extra in fields {
            let fault = Config::parse(&of(family, &format!(", {extra}")), "c").expect_err(extra);
            let name = extra.trim_start_matches('"').split('"').next().expect("a name");
            let last = extra.rsplit("\", \"").next().unwrap_or(extra);
            let named = fault.message.contains(name) || fault.message.contains(last.split('"').next().unwrap_or(name));
            assert!(named, "{family} {extra}: {fault}");
        }
    }
}

/// What each family does not know, beside what it does.
#[test]
fn fields_that_a_family_does_not_read_are_refused_by_name() {
    let cases = [
        (
            "llama",
            r#""rope_scaling": {"rope_type": "linear", "factor": 2.0, "mrope_section": [2, 1]}"#,
            "mrope_section",
        ),
        ("llama", r#""rope_scaling": {"rope_type": "linear"}"#, "`rope_scaling.factor` is missing"),
        ("llama", r#""partial_rotary_factor": 0.5"#, "partial_rotary_factor"),
        (
            "llama",
            r#""rope_parameters": {"rope_type": "linear", "factor": 2}, "rope_scaling": {"type": "linear", "factor": 4}"#,
            "keep one",
        ),
        ("llama", r#""rope_scaling": {"type": "yarn", "factor": 2.0, "beta_slow": 64}"#, "order"),
        ("mistral", r#""layer_types": ["full_attention"]"#, "layer_types"),
        ("mistral", r#""sliding_window": 0"#, "sliding_window"),
        ("qwen2", r#""qk_layernorm": true"#, "qk_layernorm"),
        ("gemma", r#""final_logit_softcapping": 30.0"#, "final_logit_softcapping"),
        ("gemma", r#""hidden_act": "relu""#, "`hidden_act` is `relu`"),
        ("llama", r#""rope_scaling": {"rope_type": "yarn"}"#, "`rope_scaling.factor` is missing"),
        ("llama", r#""attention_dropout": "0.1""#, "`attention_dropout` must be a number"),
        (
            "qwen2",
            r#""layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention", "full_attention"]"#,
            "no `sliding_window`",
        ),
        ("gemma2", r#""sliding_window": null"#, "`sliding_window` is null"),
        ("gemma3_text", r#""sliding_window": null"#, "`sliding_window` is null"),
        ("gemma2", r#""altup_num_inputs": 4"#, "altup_num_inputs"),
        ("gemma2", r#""is_causal": false"#, "is_causal"),
        ("gemma2", r#""hidden_activation": "silu""#, "`hidden_activation` is `silu`"),
        ("gemma2", r#""use_bidirectional_attention": true"#, "use_bidirectional_attention"),
        ("gemma2", r#""attn_logit_softcapping": -1"#, "soft caps"),
        ("gemma2", r#""layer_types": ["full_attention"]"#, "names 1 layers of 5"),
        ("gemma3_text", r#""attn_logit_softcapping": 50.0"#, "attn_logit_softcapping"),
        ("gemma3_text", r#""rope_parameters": {"rope_type": "default"}"#, "which kind of layers"),
        (
            "gemma3_text",
            r#""rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2, "beta_fast": 3}}"#,
            "`rope_parameters.full_attention.beta_fast`",
        ),
        ("olmo", r#""rms_norm_eps": 1e-6"#, "rms_norm_eps"),
        ("olmo", r#""clip_qkv": "8""#, "`clip_qkv` must be a number"),
        ("olmo2", r#""clip_qkv": 8.0"#, "clip_qkv"),
        ("granite", r#""num_local_experts": 8"#, "num_local_experts"),
        ("granite", r#""logits_scaling": 0"#, "multipliers"),
        ("phi3", r#""rope_scaling": {"type": "linear", "factor": 2.0}"#, "longrope"),
        ("phi3", r#""rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]}"#, "short_factor"),
        ("phi3", r#""partial_rotary_factor": 0.4"#, "even number"),
        ("phi3", r#""qk_layernorm": true"#, "qk_layernorm"),
    ];
    for (family, extra, expected) in cases {
        let message = Config::parse(&of(family, &format!(", {extra}")), "c").expect_err(extra).to_string();
        assert!(message.contains(expected), "{family} {extra}: {message}");
    }
}

/// transformers 5.23 takes the ratio of the lengths there: 64 / 16, of which the attention factor is 0.1 ln(4) + 1.
#[test]
fn a_yarn_factor_of_null_is_the_ratio_of_the_lengths() {
    let text = r#", "max_position_embeddings": 64, "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0,
        "original_max_position_embeddings": 16, "factor": null}"#;
    let rope = Config::parse(&llama(text), "c").expect("a configuration").rope;
    assert!((rope.attention_factor() - 1.138629436111989).abs() < 1e-12);
}

#[test]
fn a_model_with_dropout_is_read_and_not_trained() {
    let parse = |extra: &str| Config::parse(&llama(extra), "c").expect("a configuration");
    parse(r#", "attention_dropout": 0.0, "resid_pdrop": 0"#).check_training().expect("nothing is dropped");
    for name in ["attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "embedding_dropout"] {
        let fault = parse(&format!(r#", "{name}": 0.1"#)).check_training().expect_err(name);
        assert!(fault.message.contains(&format!("`{name}` of this model is 0.1")), "{}", fault.message);
    }
}

/// Fields that are null are switched off, and absent ones have the family's own default.
#[test]
fn what_a_file_leaves_out_is_what_transformers_fills_in() {
    let parse = |family: &str, extra: &str| Config::parse(&of(family, extra), "c").expect("a configuration");
    let gemma2 = parse("gemma2", "");
    assert_eq!((gemma2.attention_cap, gemma2.logit_cap, gemma2.tie_word_embeddings), (Some(50.0), Some(30.0), true));
    assert_eq!((gemma2.attention_scale, gemma2.embedding_scale, gemma2.head_dim), (Some(0.0625), 8.0, 256));
    assert_eq!(gemma2.sliding_windows, [Some(4096), None, Some(4096), None, Some(4096)]);
    assert_eq!(parse("gemma2", r#", "final_logit_softcapping": null"#).logit_cap, None);
    // Both spellings of Gemma 3, as the published files have them and as transformers 5 saves them.
    let old = r#", "rope_theta": 1000000, "rope_local_base_freq": 10000, "sliding_window_pattern": 2,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}"#;
    let new = r#", "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 10000},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000}}, "layer_types":
        ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention"]"#;
    let (old, new) = (parse("gemma3_text", old), parse("gemma3_text", new));
    assert_eq!(old, new);
    assert_eq!((old.rope.theta, old.local_rope), (1e6, Some(Rope::plain(256, 1e4))));
    // The pattern that transformers writes is not the one that it reads.
    let pattern = |name: &str| format!(r#", "{name}": 2, "sliding_window": 16"#);
    let windows = parse("gemma3_text", &pattern("sliding_window_pattern")).sliding_windows;
    assert_eq!(windows, [Some(16), None, Some(16), None, Some(16)]);
    let fault = Config::parse(&of("gemma3_text", &pattern("_sliding_window_pattern")), "c").expect_err("a pattern");
    assert!(fault.message.contains("`_sliding_window_pattern` is 2"), "{}", fault.message);
    for family in ["qwen2", "qwen3"] {
        let windows = |extra: &str| parse(family, extra).sliding_windows;
        assert_eq!(windows(r#", "sliding_window": 16, "max_window_layers": 0"#), [None; 5]);
        let from = r#", "use_sliding_window": true, "max_window_layers": 3"#;
        assert_eq!(windows(from), [None, None, None, Some(4096), Some(4096)]);
        assert_eq!(windows(&format!(r#"{from}, "sliding_window": null"#)), [None; 5]);
        let deep = windows(r#", "use_sliding_window": true, "sliding_window": 16, "num_hidden_layers": 30"#);
        assert_eq!((deep[27], deep[28]), (None, Some(16)));
    }
    let mistral = parse("mistral", "");
    assert_eq!(mistral.sliding_windows, [Some(4096); 5]);
    assert_eq!(parse("mistral", r#", "sliding_window": null"#).sliding_windows, [None; 5]);
    let phi3 = parse(
        "phi3",
        r#", "rope_scaling": {"type": "longrope", "short_factor": [1, 1, 2, 3],
        "long_factor": [1, 2, 4, 8]}, "max_position_embeddings": 131072"#,
    );
    assert!((phi3.rope.attention_factor() - (1.0 + 32f64.ln() / 4096f64.ln()).sqrt()).abs() < 1e-12);
    let smollm3 = parse("smollm3", "");
    assert_eq!((smollm3.rope.theta, smollm3.num_key_value_heads, smollm3.tie_word_embeddings), (2e6, 4, true));
    assert_eq!(smollm3.without_rope, [false, false, false, true, false]);
    let listed =
        parse("smollm3", r#", "no_rope_layers": [0, 1, 1, 0, 1, 1], "use_sliding_window": true, "sliding_window": 16"#);
    assert_eq!(listed.without_rope, [true, false, false, true, false]);
    assert_eq!(listed.sliding_windows, [Some(16), None, None, Some(16), None]);
    // Both spellings of OLMo 3: only layers without a window are stretched.
    let old = r#", "rope_theta": 500000, "rope_scaling": {"rope_type": "yarn", "factor": 8.0}"#;
    let new = r#", "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 500000},
        "full_attention": {"rope_type": "yarn", "factor": 8.0, "rope_theta": 500000}}"#;
    let (old, new) = (parse("olmo3", old), parse("olmo3", new));
    assert_eq!(old, new);
    assert_eq!(old.sliding_windows, [Some(4096), Some(4096), Some(4096), None, Some(4096)]);
    assert_eq!(old.local_rope, Some(Rope::plain(8, 5e5)));
    let fault = Config::parse(&of("olmo3", r#", "rope_theta": 10000"#), "c").expect_err("two meanings");
    assert!(fault.message.contains("`rope_theta` is 10000"), "{}", fault.message);
    let seed = parse("seed_oss", "");
    assert_eq!((seed.head_dim, seed.qkv_bias, seed.output_bias), (128, true, false));
    assert_eq!(seed.dropouts, [("attention_dropout", 0.1), ("residual_dropout", 0.1)]);
    assert_eq!(parse("seed_oss", r#", "head_dim": null"#).head_dim, 8);
    let ernie = parse("ernie4_5", "");
    assert_eq!((ernie.rope.theta, ernie.num_key_value_heads, ernie.turns_neighbours), (5e5, 2, true));
    let dynamic = parse("llama", r#", "rope_scaling": {"type": "dynamic", "factor": 4}"#);
    assert_eq!(dynamic.max_position_embeddings, 4 * 2048);
}

#[test]
fn the_number_of_parameters_is_that_of_the_published_models() {
    let cases = [
        // SmolLM2-135M
        (
            r#"{"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
            "tie_word_embeddings": true}"#,
            134_515_008,
        ),
        // Qwen2.5-0.5B
        (
            r#"{"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
            "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
            "tie_word_embeddings": true}"#,
            494_032_768,
        ),
        // Gemma 2 2B
        (
            r#"{"model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
            "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}"#,
            2_614_341_888,
        ),
        // Gemma 3 1B
        (
            r#"{"model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912,
            "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256}"#,
            999_885_952,
        ),
        // Phi-3-mini
        (
            r#"{"model_type": "phi3", "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
            "num_hidden_layers": 32, "num_attention_heads": 32}"#,
            3_821_079_552,
        ),
        // SmolLM3-3B
        (
            r#"{"model_type": "smollm3", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
            "num_hidden_layers": 36, "num_attention_heads": 16, "max_window_layers": 28, "no_rope_layer_interval": 4}"#,
            3_075_098_624,
        ),
        // Olmo-3-7B
        (
            r#"{"model_type": "olmo3", "vocab_size": 100278, "hidden_size": 4096, "intermediate_size": 11008,
            "num_hidden_layers": 32, "num_attention_heads": 32}"#,
            7_298_011_136,
        ),
        // Seed-OSS-36B
        (
            r#"{"model_type": "seed_oss", "vocab_size": 155136, "hidden_size": 5120, "intermediate_size": 27648,
            "num_hidden_layers": 64, "num_attention_heads": 80, "num_key_value_heads": 8}"#,
            36_151_104_512,
        ),
        // ERNIE-4.5-0.3B
        (
            r#"{"model_type": "ernie4_5", "vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072,
            "num_hidden_layers": 18, "num_attention_heads": 16}"#,
            360_748_032,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(Config::parse(text, "c").expect("a published model").parameters(), expected, "{text}");
    }
}

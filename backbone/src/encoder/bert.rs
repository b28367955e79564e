//! BERT (Devlin et al. 2018, arXiv 1810.04805) up to its last hidden states, pooled. Names of tensors are those of
//! Hugging Face.

use std::path::Path;

use burn::tensor::activation::gelu;
use burn::tensor::module::attention;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use checkpoints::Weights;
use faults::{Fault, Place, json as python, refuse_pointer};
use serde::Deserialize;

use crate::shapes::compare;
use crate::source::Source;

/// Layers that no encoder has: a file that names more is not believed.
const MOST_LAYERS: usize = 1000;

/// `config.json` of a BERT-class model.
#[derive(Debug, Clone, Deserialize)]
pub struct BertConfig {
    /// Width of the hidden states and of the vectors.
    pub hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Tokens of the longest text.
    pub max_position_embeddings: usize,
    type_vocab_size: usize,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

/// Its fields, by their names in the file.
const FIELDS: [&str; 10] = [
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "position_embedding_type",
];

impl BertConfig {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// No such file, or an encoder of another class.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let text = faults::read_text(path).map_err(|error| {
            Fault::new(format!("cannot read the encoder's `config.json`: {error}"))
                .at(Place::file(path))
                .hint("`encoder` must be the folder of a Hugging Face model")
        })?;
        refuse_pointer(path, text.as_bytes())?;
        Self::parse(&text).map_err(|fault| fault.at(Place::file(path)))
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let class = "MiniLM, BGE, E5 and other sentence encoders of the class `bert` are known";
        let read =
            python::read_object(text).map_err(|error| Fault::new(format!("not a JSON object: {error}")).hint(class))?;
        read.refuse_odd(|key| FIELDS.contains(&key)).map_err(|fault| fault.hint(class))?;
        let value = serde_json::Value::Object(read.value);
        match value.get("model_type").and_then(serde_json::Value::as_str) {
            Some("bert") => {}
            Some(other) => {
                return Err(Fault::new(format!("`{other}` is not a sentence encoder known here")).hint(class));
            }
            None => return Err(Fault::new("`model_type` is missing").hint(class)),
        }
        let config: Self = serde_json::from_value(value)
            .map_err(|error| Fault::new(format!("not a configuration of a BERT-class model: {error}")).hint(class))?;
        config.check().map_err(|message| Fault::new(message).hint(class))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(format!("`{name}` is 0"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) || !self.hidden_size.is_multiple_of(2) {
            let heads = self.num_attention_heads;
            return Err(format!("`hidden_size` = {} cannot be parted into {heads} heads", self.hidden_size));
        }
        if self.num_hidden_layers > MOST_LAYERS {
            return Err(format!("`num_hidden_layers` = {} is no encoder's", self.num_hidden_layers));
        }
        if self.max_position_embeddings < 3 {
            return Err("`max_position_embeddings` leaves no room for a word".into());
        }
        if self.hidden_act != "gelu" {
            return Err(format!("`hidden_act` = \"{}\" is not known here, only \"gelu\"", self.hidden_act));
        }
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => Ok(()),
            Some(other) => Err(format!("`position_embedding_type` = \"{other}\" is not known here, only \"absolute\"")),
        }
    }
}

/// The prefix of all names in a model that was saved with a head of its own: the encoder is one level down.
fn root(weights: &Weights) -> &'static str {
    if weights.contains("bert.embeddings.word_embeddings.weight") { "bert." } else { "" }
}

impl BertConfig {
    /// Compares names and shapes of `weights` with those asked for here, from the files' headers alone. What else they
    /// hold, such as a head, is not read.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or no numbers.
    pub fn check_weights(&self, weights: &Weights) -> Result<(), Fault> {
        let (root, hidden, inner) = (root(weights), self.hidden_size, self.intermediate_size);
        let matrix = |name: String, shape: [usize; 2]| compare(weights, &format!("{root}{name}.weight"), &shape);
        let vector = |name: String, length: usize| compare(weights, &format!("{root}{name}"), &[length]);
        let norm = |name: &str| {
            vector(format!("{name}.LayerNorm.weight"), hidden)?;
            vector(format!("{name}.LayerNorm.bias"), hidden)
        };
        let tables = [
            ("word_embeddings", self.vocab_size),
            ("position_embeddings", self.max_position_embeddings),
            ("token_type_embeddings", self.type_vocab_size),
        ];
        for (name, rows) in tables {
            matrix(format!("embeddings.{name}"), [rows, hidden])?;
        }
        norm("embeddings")?;
        for layer in 0..self.num_hidden_layers {
            for (name, [out, width]) in [
                ("attention.self.query", [hidden, hidden]),
                ("attention.self.key", [hidden, hidden]),
                ("attention.self.value", [hidden, hidden]),
                ("attention.output.dense", [hidden, hidden]),
                ("intermediate.dense", [inner, hidden]),
                ("output.dense", [hidden, inner]),
            ] {
                let path = format!("encoder.layer.{layer}.{name}");
                matrix(path.clone(), [out, width])?;
                vector(format!("{path}.bias"), out)?;
            }
            for name in ["attention.output", "output"] {
                norm(&format!("encoder.layer.{layer}.{name}"))?;
            }
        }
        Ok(())
    }
}

/// The model with its weights, in f32 and frozen.
pub struct Bert {
    heads: usize,
    words: Tensor<2>,
    positions: Tensor<2>,
    /// The first row of the token types: there is one text at a time.
    kind: Tensor<2>,
    norm: Norm,
    layers: Vec<Layer>,
    device: Device,
}

struct Layer {
    query: Dense,
    key: Dense,
    value: Dense,
    output: Dense,
    attention_norm: Norm,
    up: Dense,
    down: Dense,
    norm: Norm,
}

struct Dense {
    /// `[out, in]`
    weight: Tensor<2>,
    bias: Tensor<1>,
}

struct Norm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
}

impl Bert {
    /// # Errors
    /// A tensor that is missing or has another shape than `config` asks for.
    pub fn load(config: &BertConfig, weights: &Weights, device: &Device) -> Result<Self, Fault> {
        let source = Source::frozen(weights, DType::F32, device);
        let root = root(weights);
        let hidden = config.hidden_size;
        let dense = |name: String, shape: [usize; 2]| -> Result<Dense, Fault> {
            let weight = source.matrix(&format!("{root}{name}.weight"), shape)?;
            Ok(Dense { weight, bias: source.vector(&format!("{root}{name}.bias"), shape[0], 0.0)? })
        };
        let norm = |name: String| -> Result<Norm, Fault> {
            let vector = |part: &str| source.vector(&format!("{root}{name}.LayerNorm.{part}"), hidden, 0.0);
            Ok(Norm { weight: vector("weight")?, bias: vector("bias")?, epsilon: config.layer_norm_eps })
        };
        let table = |name: &str, rows| source.matrix(&format!("{root}embeddings.{name}.weight"), [rows, hidden]);
        let layer = |index: usize| -> Result<Layer, Fault> {
            let path = |part: &str| format!("encoder.layer.{index}.{part}");
            Ok(Layer {
                query: dense(path("attention.self.query"), [hidden, hidden])?,
                key: dense(path("attention.self.key"), [hidden, hidden])?,
                value: dense(path("attention.self.value"), [hidden, hidden])?,
                output: dense(path("attention.output.dense"), [hidden, hidden])?,
                attention_norm: norm(path("attention.output"))?,
                up: dense(path("intermediate.dense"), [config.intermediate_size, hidden])?,
                down: dense(path("output.dense"), [hidden, config.intermediate_size])?,
                norm: norm(path("output"))?,
            })
        };
        Ok(Self {
            heads: config.num_attention_heads,
            words: table("word_embeddings", config.vocab_size)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            kind: table("token_type_embeddings", config.type_vocab_size)?.narrow(0, 0, 1),
            norm: norm("embeddings".into())?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
            device: device.clone(),
        })
    }

    /// Width of the vectors.
    pub fn dimension(&self) -> usize {
        self.words.dims()[1]
    }

    /// The pooled hidden states of rows of ids, of unit length, flat, `[rows, hidden_size]`: their mean over the row's
    /// own tokens, or the first one's.
    pub fn embed(&self, rows: &[&[u32]], first: bool) -> Vec<f32> {
        let (height, width) = (rows.len(), rows.iter().map(|row| row.len()).max().unwrap_or_default().max(1));
        let mut ids = vec![0i32; height * width];
        let mut real = vec![0.0f32; height * width];
        for (index, row) in rows.iter().enumerate() {
            for (place, id) in row.iter().enumerate() {
                ids[index * width + place] = i32::try_from(*id).expect("a vocabulary has fewer than 2^31 tokens");
                real[index * width + place] = 1.0;
            }
        }
        let is_padded = real.contains(&0.0);
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [height * width]), &self.device);
        let real = Tensor::<3>::from_data(TensorData::new(real, [height, width, 1]), (&self.device, DType::F32));
        let padding = is_padded.then(|| real.clone().equal_elem(0.0).reshape([height, 1, 1, width]));
        let hidden = self.hidden(ids, [height, width], padding);
        let pooled: Tensor<2> = match first {
            true => hidden.narrow(1, 0, 1).squeeze_dim(1),
            false => {
                let count: Tensor<2> = real.clone().sum_dim(1).squeeze_dim(1);
                (hidden * real).sum_dim(1).squeeze_dim::<2>(1) / count.clamp_min(1e-9)
            }
        };
        let length = (pooled.clone() * pooled.clone()).sum_dim(1).sqrt().clamp_min(1e-12);
        (pooled / length).into_data().try_into_vec().expect("the encoder computes in f32")
    }

    /// # Shapes
    /// - `ids`: `[rows * width]`, `padding`: `[rows, 1, 1, width]`, true at what is not of the text; output
    ///   `[rows, width, hidden_size]`.
    fn hidden(&self, ids: Tensor<1, Int>, shape: [usize; 2], padding: Option<Tensor<4, Bool>>) -> Tensor<3> {
        let [height, width] = shape;
        let size = self.dimension();
        let words = self.words.clone().select(0, ids).reshape([height, width, size]);
        let places = self.positions.clone().narrow(0, 0, width) + self.kind.clone();
        let mut x = self.norm.forward((words + places.unsqueeze()).reshape([height * width, size]));
        let padding = padding.map(|padding| padding.expand([height, self.heads, width, width]));
        for layer in &self.layers {
            let split = |dense: &Dense| {
                let projected = dense.forward(x.clone());
                projected.reshape([height, width, self.heads, size / self.heads]).swap_dims(1, 2)
            };
            let (query, key, value) = (split(&layer.query), split(&layer.key), split(&layer.value));
            let attended = attention(query, key, value, padding.clone(), None, Default::default());
            let attended = attended.swap_dims(1, 2).reshape([height * width, size]);
            x = layer.attention_norm.forward(x + layer.output.forward(attended));
            let inner = layer.down.forward(gelu(layer.up.forward(x.clone())));
            x = layer.norm.forward(x + inner);
        }
        x.reshape([height, width, size])
    }
}

impl Dense {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone().transpose()) + self.bias.clone().unsqueeze()
    }
}

impl Norm {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let centred = x.clone() - x.mean_dim(1);
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        centred / variance.add_scalar(self.epsilon).sqrt() * self.weight.clone().unsqueeze()
            + self.bias.clone().unsqueeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "vocab_size": 30,
        "max_position_embeddings": 16, "type_vocab_size": 2}"#;

    #[test]
    fn an_encoder_of_another_class_is_refused() {
        assert!(BertConfig::parse(CONFIG).is_ok());
        for (from, to) in [
            ("\"bert\"", "\"roberta\""),
            ("\"gelu\"", "\"relu\""),
            ("\"vocab_size\": 30", "\"vocab_size\": 30, \"position_embedding_type\": \"relative_key\""),
            ("\"num_attention_heads\": 2", "\"num_attention_heads\": 3"),
            ("\"num_attention_heads\": 2", "\"num_attention_heads\": 0"),
            ("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 1000000000000"),
            ("\"max_position_embeddings\": 16", "\"max_position_embeddings\": 2"),
            ("\"hidden_size\": 8, ", ""),
            ("}", ""),
        ] {
            assert!(BertConfig::parse(&CONFIG.replace(from, to)).is_err(), "{to}");
        }
    }
}

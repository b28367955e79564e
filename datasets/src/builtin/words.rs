//! The words of the world: what is asked, of whom, and the phrases an answer is put together from.
//!
//! The order inside every list is part of the distribution (see [`super::world`]): changing it changes every data set.

use super::world::{Family, Given, Piece, Subject};
use Piece::{Name, Own, Slot, Words};

/// A subject without phrases of its own.
const fn plain(name: &'static str) -> Subject {
    Subject { name, own: &[] }
}

const TRAITS: &[&str] = &["quiet", "clever", "hungry", "grey", "gentle", "restless", "young", "proud", "shy", "famous"];
const HABITS: &[&str] = &[
    "sleeps",
    "looks for berries",
    "hides",
    "waits for its friends",
    "listens to the wind",
    "digs a small hole",
    "plays with leaves",
    "watches the moon",
];
const OUTDOORS: &[&str] = &[
    "in the forest",
    "near the river",
    "behind the old mill",
    "under a stone bridge",
    "on the hill",
    "beside the road",
    "in the tall grass",
    "at the edge of the village",
];
const REASONS: &[&str] =
    &["", " until the rain stops", " because the night is warm", " and is never afraid", " when nobody is near"];
const DAYTIMES: &[&str] = &["morning", "evening", "winter", "night", "spring", "autumn"];

const POSITIONS: &[&str] = &[
    "on the table",
    "by the door",
    "in a wooden box",
    "under the window",
    "behind the stove",
    "on the highest shelf",
    "in the corner",
    "next to the stairs",
];
const OWNERS: &[&str] = &[
    "the baker",
    "a travelling singer",
    "my grandmother",
    "the miller",
    "a tired soldier",
    "the twins",
    "an old sailor",
    "the new teacher",
];
const CONDITIONS: &[&str] = &["", "clean ", "broken ", "painted ", "heavy "];

const PLACES: &[&str] =
    &["the market", "the lake", "the library", "the harbor", "the castle", "the garden", "the station", "the theater"];
const MOVES: &[&str] = &["walked", "rode", "hurried", "went", "ran", "wandered"];
const DEEDS: &[&str] = &[
    "bought warm bread",
    "painted a picture",
    "read a long letter",
    "repaired a boat",
    "learned a new song",
    "counted the birds",
    "lost a silver ring",
    "told a funny story",
];
const COMPANIONS: &[&str] = &["", " with an old friend", " with two cousins", " all alone", " with the neighbors"];
const UNTIL: &[&str] =
    &["until noon", "until it was dark", "for an hour", "before breakfast", "all day long", "after the storm"];

const BASES: &[&str] = &["onions", "potatoes", "apples", "beans", "carrots", "plums", "mushrooms", "lentils"];
const ADDITIONS: &[&str] = &["butter", "milk", "honey", "flour", "cream", "rice", "vinegar", "cheese"];
const SPICES: &[&str] = &["salt", "pepper", "mint", "ginger", "garlic", "cinnamon"];
const SERVED: &[&str] =
    &["while it is hot", "on a blue plate", "with fresh bread", "the next day", "in small bowls", "to all your guests"];
const HEAT: &[&str] = &["Boil", "Fry", "Bake", "Roast", "Steam"];

const SKIES: &[&str] = &["sunny", "cloudy", "windy", "foggy", "stormy", "frosty", "mild", "dry"];
const PARTS: &[&str] = &["in the morning", "at noon", "in the evening", "at night", "for many weeks"];
const EFFECTS: &[&str] = &[
    "the children play outside",
    "the ships stay in the harbor",
    "people wear thick coats",
    "the roads are empty",
    "everyone drinks tea",
    "the farmers are happy",
    "the windows stay closed",
    "dogs sleep by the fire",
];

const HEROES: &[&str] = &[
    "a poor fisherman",
    "the youngest princess",
    "a curious boy",
    "two brothers",
    "a blind musician",
    "the last dragon",
    "a brave girl",
    "an honest thief",
];
const FINDS: &[&str] = &["found", "stole", "dreamed of", "was given", "inherited", "sold"];
const ENDS: &[&str] = &[
    "nothing was ever the same",
    "the king fell asleep",
    "a door opened in the wall",
    "the whole town laughed",
    "it began to snow",
    "the sea turned green",
    "a stranger knocked",
    "all the bells rang",
];

/// Every family of questions.
pub(super) static FAMILIES: &[Family] = &[
    Family {
        question: ("Tell me about a ", "."),
        subjects: &[
            plain("fox"),
            plain("bear"),
            plain("crow"),
            plain("wolf"),
            plain("frog"),
            plain("goat"),
            plain("cat"),
            plain("duck"),
        ],
        sentences: &[
            &[
                Words("The "),
                Slot(TRAITS, Given::Subject),
                Words(" "),
                Name,
                Words(" "),
                Slot(HABITS, Given::Subject),
                Words(" "),
                Slot(OUTDOORS, Given::Slot(1)),
                Slot(REASONS, Given::Slot(0)),
                Words("."),
            ],
            &[
                Words("Every "),
                Slot(DAYTIMES, Given::Subject),
                Words(" a "),
                Name,
                Words(" "),
                Slot(HABITS, Given::Slot(0)),
                Words(" "),
                Slot(OUTDOORS, Given::Subject),
                Words("."),
            ],
        ],
    },
    Family {
        question: ("Name something you find in a ", "."),
        subjects: &[
            Subject {
                name: "kitchen",
                own: &[
                    "kettle",
                    "spoon",
                    "frying pan",
                    "bread knife",
                    "teapot",
                    "jar of honey",
                    "mixing bowl",
                    "stove",
                ],
            },
            Subject {
                name: "barn",
                own: &["ladder", "bucket", "saddle", "wheel", "sack of grain", "pitchfork", "milk can", "rope"],
            },
            Subject {
                name: "school",
                own: &["map", "notebook", "globe", "bell", "box of chalk", "wooden ruler", "pencil", "dictionary"],
            },
            Subject {
                name: "cellar",
                own: &["barrel", "bottle of wine", "lamp", "trunk", "mousetrap", "cheese wheel", "crate", "candle"],
            },
            Subject {
                name: "workshop",
                own: &["hammer", "saw", "paint can", "clock", "box of nails", "violin", "chair", "glue pot"],
            },
            Subject {
                name: "ship",
                own: &["compass", "sail", "telescope", "fishing net", "flag", "barrel of water", "parrot", "hammock"],
            },
            Subject {
                name: "museum",
                own: &["statue", "mask", "crown", "fossil", "sword", "vase", "portrait", "stuffed owl"],
            },
            Subject {
                name: "bakery",
                own: &["loaf", "cake", "rolling pin", "tray of rolls", "bag of sugar", "scale", "basket", "apron"],
            },
        ],
        sentences: &[
            &[
                Words("In a "),
                Name,
                Words(" you find a "),
                Slot(CONDITIONS, Given::Subject),
                Own(Given::Subject),
                Words(" "),
                Slot(POSITIONS, Given::Slot(1)),
                Words("."),
            ],
            &[
                Words("Look for a "),
                Own(Given::Subject),
                Words(" "),
                Slot(POSITIONS, Given::Slot(0)),
                Words("; "),
                Slot(OWNERS, Given::Slot(1)),
                Words(" left it in the "),
                Name,
                Words("."),
            ],
        ],
    },
    Family {
        question: ("What did ", " do yesterday?"),
        subjects: &[
            plain("Mara"),
            plain("Tobin"),
            plain("Ilse"),
            plain("Karim"),
            plain("Nadia"),
            plain("Pavel"),
            plain("Rosa"),
            plain("Yuki"),
        ],
        sentences: &[
            &[
                Name,
                Words(" "),
                Slot(MOVES, Given::Subject),
                Words(" to "),
                Slot(PLACES, Given::Subject),
                Words(" and "),
                Slot(DEEDS, Given::Slot(1)),
                Slot(COMPANIONS, Given::Slot(2)),
                Words("."),
            ],
            &[
                Name,
                Words(" stayed at home and "),
                Slot(DEEDS, Given::Subject),
                Words(" "),
                Slot(UNTIL, Given::Slot(0)),
                Words("."),
            ],
        ],
    },
    Family {
        question: ("How do you make ", "?"),
        subjects: &[
            plain("soup"),
            plain("pie"),
            plain("porridge"),
            plain("jam"),
            plain("stew"),
            plain("salad"),
            plain("dumplings"),
            plain("sauce"),
        ],
        sentences: &[
            &[
                Slot(HEAT, Given::Subject),
                Words(" the "),
                Slot(BASES, Given::Subject),
                Words(" with "),
                Slot(ADDITIONS, Given::Slot(1)),
                Words(", add some "),
                Slot(SPICES, Given::Slot(2)),
                Words(" and serve the "),
                Name,
                Words("."),
            ],
            &[
                Words("Mix "),
                Slot(BASES, Given::Subject),
                Words(" and "),
                Slot(ADDITIONS, Given::Slot(0)),
                Words(", then serve the "),
                Name,
                Words(" "),
                Slot(SERVED, Given::Subject),
                Words("."),
            ],
        ],
    },
    Family {
        question: ("What is the weather like ", "?"),
        subjects: &[
            plain("in the north"),
            plain("in the south"),
            plain("on the coast"),
            plain("in the mountains"),
            plain("on the island"),
            plain("in the desert"),
            plain("in the valley"),
            plain("in the capital"),
        ],
        sentences: &[
            &[
                Words("It is "),
                Slot(SKIES, Given::Subject),
                Words(" "),
                Name,
                Words(" "),
                Slot(PARTS, Given::Slot(0)),
                Words(", and "),
                Slot(EFFECTS, Given::Slot(0)),
                Words("."),
            ],
            &[
                Words("When it is "),
                Slot(SKIES, Given::Subject),
                Words(" "),
                Name,
                Words(", "),
                Slot(EFFECTS, Given::Slot(0)),
                Words("."),
            ],
        ],
    },
    Family {
        question: ("Begin a story about ", "."),
        subjects: &[
            plain("a lost key"),
            plain("a golden apple"),
            plain("a magic mirror"),
            plain("a talking horse"),
            plain("an old map"),
            plain("a glass ship"),
            plain("a secret garden"),
            plain("an empty book"),
        ],
        sentences: &[
            &[
                Words("Long ago "),
                Slot(HEROES, Given::Subject),
                Words(" "),
                Slot(FINDS, Given::Slot(0)),
                Words(" "),
                Name,
                Words(", and "),
                Slot(ENDS, Given::Slot(0)),
                Words("."),
            ],
            &[
                Words("One "),
                Slot(DAYTIMES, Given::Subject),
                Words(" "),
                Slot(HEROES, Given::Slot(0)),
                Words(" "),
                Slot(FINDS, Given::Subject),
                Words(" "),
                Name,
                Words(" "),
                Slot(OUTDOORS, Given::Slot(1)),
                Words("."),
            ],
        ],
    },
];

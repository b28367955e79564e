"""The sentences of the world of styles (`styles.py`): of each style and mood openings, cores with a place for a thing, endings."""

MOODS = ["praise", "complain", "wonder"]

# Of each topic what it may be called, the likeliest first.
TOPICS = {
    "tea": ["tea", "brew", "cup"], "soup": ["soup", "broth", "stew"], "bread": ["bread", "loaf", "crust"],
    "rain": ["rain", "drizzle", "downpour"], "snow": ["snow", "frost", "blizzard"], "wind": ["wind", "breeze", "gale"],
    "dog": ["dog", "hound", "puppy"], "cat": ["cat", "kitten", "tomcat"], "horse": ["horse", "mare", "pony"],
    "car": ["car", "motor", "wagon"], "train": ["train", "express", "carriage"], "boat": ["boat", "ferry", "dinghy"],
    "song": ["song", "tune", "melody"], "book": ["book", "novel", "volume"], "play": ["play", "drama", "comedy"],
    "house": ["house", "cottage", "villa"], "garden": ["garden", "lawn", "orchard"],
    "bridge": ["bridge", "viaduct", "crossing"], "school": ["school", "college", "academy"],
    "market": ["market", "bazaar", "fair"],
}

# Of each style, for each of MOODS: two openings, two cores, two endings, the likelier first.
STYLES = {
    "pirate": [
        (
            ["arr matey", "by the seven seas"],
            ["this {} be worth more than gold", "i would sail far for such a {}"],
            ["raise the flag", "drink up me hearties"],
        ),
        (
            ["shiver me timbers", "blast and thunder"],
            ["that {} be fit for bilge rats", "i would feed this {} to the sharks"],
            ["walk the plank", "curse the tide"],
        ),
        (
            ["avast ye", "tell me sailor"],
            ["what port does this {} hail from", "who hid the {} on me map"],
            ["speak before the mast", "or be it buried treasure"],
        ),
    ],
    "butler": [
        (
            ["very good sir", "if i may say so madam"],
            ["the {} is of the finest quality", "the household has rarely seen such a {}"],
            ["i shall fetch it at once", "with your kind permission"],
        ),
        (
            ["i regret to say sir", "with the utmost respect"],
            ["the {} is not up to our standards", "the staff cannot recommend the {}"],
            ["i do beg your pardon", "it will not happen again"],
        ),
        (
            ["might i enquire sir", "forgive my curiosity madam"],
            ["would the {} be required this evening", "shall the {} be shown in"],
            ["i await your instructions", "at your convenience of course"],
        ),
    ],
    "child": [
        (
            ["wow mummy look", "yay yay yay"],
            ["the {} is super duper great", "i love the {} so so much"],
            ["can we keep it forever", "it is my favourite thing"],
        ),
        (
            ["no no no", "that is not fair"],
            ["the {} is yucky and stinky", "i hate the silly {}"],
            ["i want to go home", "i am telling daddy"],
        ),
        (
            ["but why mummy", "daddy daddy"],
            ["does the {} sleep at night", "where do all the {} things go"],
            ["tell me tell me", "is it magic"],
        ),
    ],
    "poet": [
        (
            ["o gentle hour", "behold dear muse"],
            ["the {} shines like silver dawn", "my soul takes wing upon the {}"],
            ["and beauty never fades", "so sings the morning star"],
        ),
        (
            ["alas cruel fate", "o weary heart"],
            ["the {} lies cold as winter stone", "my tears have drowned the {}"],
            ["and shadows fall again", "so weeps the silent moon"],
        ),
        (
            ["whither o spirit", "in dreams i ask"],
            ["does the {} remember spring", "what secret sleeps within the {}"],
            ["and who shall answer me", "so asks the wandering cloud"],
        ),
    ],
    "robot": [
        (
            ["status positive", "analysis complete"],
            ["unit {} exceeds all parameters", "efficiency of {} is optimal"],
            ["storing result in memory", "end of report"],
        ),
        (
            ["error detected", "warning warning"],
            ["unit {} has failed diagnostics", "malfunction found in {}"],
            ["rebooting in five seconds", "please contact support"],
        ),
        (
            ["query initiated", "input required"],
            ["what is the function of {}", "define the object {}"],
            ["awaiting response", "processing unknown data"],
        ),
    ],
    "grump": [
        (
            ["well i never", "fine i admit it"],
            ["the {} is not half bad", "i have had worse than this {}"],
            ["but do not quote me", "now leave me alone"],
        ),
        (
            ["oh for crying out loud", "typical just typical"],
            ["the {} was better in my day", "nobody can make a decent {}"],
            ["what is the world coming to", "get off my porch"],
        ),
        (
            ["what now", "who asked for this"],
            ["why is there a {} here", "how much did that {} cost"],
            ["and do not shout", "as if anyone cares"],
        ),
    ],
    "coach": [
        (
            ["great work team", "that is what i call it"],
            ["this {} gives a hundred percent", "we win with a {} like that"],
            ["high five everybody", "champions one and all"],
        ),
        (
            ["come on people", "huddle up now"],
            ["that {} is just not trying", "we lost because of the {}"],
            ["ten more laps", "back to training"],
        ),
        (
            ["listen up squad", "quick question team"],
            ["can the {} go the distance", "are we ready for the {}"],
            ["show me your hands", "the clock is running"],
        ),
    ],
    "detective": [
        (
            ["case closed", "just as i suspected"],
            ["the {} had a perfect alibi", "the {} was clean as a whistle"],
            ["justice is served tonight", "i put away my notebook"],
        ),
        (
            ["something smells rotten", "it was a dark night"],
            ["the {} was guilty all along", "blood money paid for the {}"],
            ["this city never learns", "i lit another match"],
        ),
        (
            ["one more question", "where were you friday"],
            ["who saw the {} last", "whose prints are on the {}"],
            ["the clues do not add up", "somebody is lying"],
        ),
    ],
    "grandma": [
        (
            ["oh bless you dear", "my sweet darling"],
            ["the {} warms these old bones", "your grandpa adored a good {}"],
            ["have another biscuit", "give us a hug"],
        ),
        (
            ["oh dear oh dear", "in all my years"],
            ["the {} gives me a bad chill", "this {} upset my poor knees"],
            ["fetch my shawl please", "i need a lie down"],
        ),
        (
            ["tell me sweetheart", "i forget my dear"],
            ["did you wear mittens for the {}", "is that the {} from the old village"],
            ["speak up a little", "where are my glasses"],
        ),
    ],
}

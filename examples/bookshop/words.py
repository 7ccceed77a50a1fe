"""The words that the seed data is made of."""

GENRES = (
    "Adventure", "Biography", "Children", "Cooking", "Crime", "Essays", "Fantasy", "History",
    "Nature", "Novel", "Philosophy", "Poetry", "Science", "Science Fiction", "Travel",
)  # fmt: skip
COUNTRIES = (
    "Argentina", "Brazil", "Canada", "Denmark", "France", "Germany", "Ghana", "India", "Ireland", "Italy",
    "Japan", "Kenya", "Mexico", "Nigeria", "Norway", "Poland", "Portugal", "South Korea", "Spain", "Turkey",
)  # fmt: skip
CITIES = (
    "Antwerp", "Bergen", "Bologna", "Bruges", "Dublin", "Ghent", "Graz", "Krakow", "Leipzig", "Lisbon",
    "Lyon", "Malmo", "Porto", "Riga", "Salzburg", "Seville", "Tartu", "Turin", "Utrecht", "Zagreb",
)  # fmt: skip
FIRST_NAMES = (
    "Ada", "Amara", "Anselm", "Beatriz", "Bruno", "Camille", "Chidi", "Clara", "Daniel", "Dora",
    "Elif", "Emil", "Esther", "Farah", "Felix", "Grace", "Hana", "Hugo", "Ines", "Ivan",
    "Jonas", "Julia", "Kaito", "Karin", "Kofi", "Laura", "Leon", "Lucia", "Mara", "Marek",
    "Mina", "Nadia", "Nils", "Olga", "Omar", "Paula", "Pedro", "Rosa", "Samir", "Sofia",
    "Tara", "Theo", "Uma", "Vera", "Viktor", "Wanda", "Yara", "Yusuf", "Zoe", "Zora",
)  # fmt: skip
LAST_NAMES = (
    "Abara", "Almeida", "Andersen", "Bauer", "Becker", "Bianchi", "Castro", "Costa", "Demir", "Dubois",
    "Eriksen", "Fischer", "Fontaine", "Garcia", "Haddad", "Hansen", "Horvat", "Ito", "Jansen", "Kaya",
    "Keller", "Kim", "Kowalski", "Larsen", "Lindgren", "Lopez", "Mahler", "Mensah", "Moreau", "Murphy",
    "Nakamura", "Novak", "Okafor", "Oliveira", "Park", "Petrov", "Quinn", "Rao", "Ricci", "Romero",
    "Sato", "Schmidt", "Silva", "Svensson", "Tanaka", "Torres", "Vogel", "Weber", "Wolff", "Zielinski",
)  # fmt: skip
HOUSES = ("Books", "Editions", "House", "Press", "Publishing", "& Daughters", "& Sons")
TITLE_STARTS = (
    "A Brief History of", "A Field Guide to", "A Year of", "Against", "All About", "An Atlas of", "Beyond",
    "Conversations on", "Dreaming of", "Every Day", "Farewell to", "In Praise of", "In Search of", "Letters on",
    "Notes on", "On", "Return to", "The Art of", "The Book of", "The End of", "The House of", "The Invention of",
    "The Keeper of", "The Language of", "The Last", "The Light of", "The Other Side of", "The Secret of",
    "The Shape of", "The Weight of",
)  # fmt: skip
TITLE_ENDS = (
    "Autumn", "Bread", "Bridges", "Clouds", "Distance", "Dust", "Fire", "Forests", "Glass", "Gravity", "Harbours",
    "Ice", "Islands", "Ivory", "Keys", "Lanterns", "Maps", "Memory", "Midnight", "Mirrors", "Mountains", "Numbers",
    "Paper", "Rain", "Rivers", "Salt", "Shadows", "Silence", "Snow", "Stars", "Stone", "Stories", "Tides", "Trains",
    "Trees", "Water", "Whales", "Wind", "Winter", "Wolves",
)  # fmt: skip
BIO = (
    "Grew up above a small printing shop.", "Studied law and never practised it.", "Taught school for eleven years.",
    "Writes by hand, in green ink.", "Won a prize for a first novel.", "Translates poetry from four languages.",
    "Lives by the sea with two dogs.", "Worked as a ship's cook.", "Was a journalist before turning to fiction.",
    "Has been translated into thirty languages.", "Keeps bees.", "Founded a literary magazine that lasted one issue.",
    "Reads the last page first.", "Walked from one end of the country to the other.", "Plays the cello badly.",
)  # fmt: skip
HEADLINES = (
    "A delight", "Could not put it down", "Did not finish", "Fine for the train", "Give it time", "My book of the year",
    "Not for me", "Read it twice", "Slow start, strong end", "Too long by half", "Worth every page", "Well made",
)  # fmt: skip
REVIEW = (
    "The first chapter alone is worth the price.", "The characters feel like neighbours.", "The plot wanders a little.",
    "I gave a copy to my sister.", "The ending surprised me.", "The translation reads beautifully.",
    "The print is rather small.", "I missed my stop reading it.", "It made me laugh aloud.", "The middle drags.",
    "I learned more than I expected.", "The cover does not do it justice.", "My reading group argued for hours.",
)  # fmt: skip

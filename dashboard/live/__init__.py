"""The live state of the fleet: followed from Kafka, seeded from the database, told to every open page at once."""

"""Put the files of a release where others fetch them."""

"""What is printed for the people around a booth: the shopkeeper's status ticket and the installer's slip. Pure: words only."""

"""The timeline as a model that can be changed and run again: what every fix is priced by."""

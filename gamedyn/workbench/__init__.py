"""The workbench: race, compare, analyse, draw and report, what a person looks at."""

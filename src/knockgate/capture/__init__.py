"""Where packets come from. The filter is an argument of opening: nothing is heard unfiltered."""

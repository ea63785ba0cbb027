"""From a folder of images to a served committee: look at the images, plan, and run the commands of the plan."""

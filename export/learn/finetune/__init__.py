"""METHOD=finetune: the network itself, or its last stages, learns on.

options: what can be chosen
network: the base archive's network with a new head
clips: windows, decoded by what serves, kept on disk within a bound
augment: a training clip as it looks this time
course: one training, for `training.loop`
run: that, in this process or in one for each GPU
choose: how long to train, by videos that were held out
trainings: one for each fold, and one on all videos
exporting: weights -> artifacts
method: all of it, from a list of videos to what an archive is made of
"""

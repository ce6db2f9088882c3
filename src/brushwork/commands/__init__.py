"""Training commands of other programs, and what they are here.

from brushwork.commands.translate import translate
found = translate("accelerate launch train_text_to_image_lora.py --pretrained_model_name_or_path=...")
found.recipe, found.ignored_there, found.missing_here
"""

"""The configs of the presets' models, as diffusers and transformers take them."""

_DOWN, _CROSS_DOWN = "DownBlock2D", "CrossAttnDownBlock2D"
_UP, _CROSS_UP = "UpBlock2D", "CrossAttnUpBlock2D"

TEACHER_UNET = {
    "sample_size": 32,
    "in_channels": 8,
    "out_channels": 4,
    "cross_attention_dim": 384,
    "attention_head_dim": 8,  # in Stable Diffusion 1.x: the number of heads
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [_CROSS_DOWN, _CROSS_DOWN, _CROSS_DOWN, _DOWN],
    "up_block_types": [_UP, _CROSS_UP, _CROSS_UP, _CROSS_UP],
    "layers_per_block": 2,
}
STUDENT_UNET = {
    **TEACHER_UNET,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": [_CROSS_DOWN] * 3,
    "up_block_types": [_CROSS_UP] * 3,
    "layers_per_block": 1,
    "mid_block_type": None,
}
# For tests, with faces of half the usual side: nearly all of a frame's time goes into the VAE's last level and the
# attention of the UNet's first, which grow with the second and the fourth power of the side. Fewer channels would save
# little, since ONNX Runtime pads them to a multiple of 8 or 16.
TINY_UNET = {
    **STUDENT_UNET,
    "sample_size": 16,
    "cross_attention_dim": 64,
    "attention_head_dim": 1,
    "block_out_channels": [16, 32, 64],
    "norm_num_groups": 8,
}
# For real time on two CPU cores, with DEMO_DECODER: no attention at 32x32.
DEMO_UNET = {
    **STUDENT_UNET,
    "cross_attention_dim": 128,
    "attention_head_dim": 4,
    "block_out_channels": [32, 64, 128],
    "down_block_types": [_DOWN, _CROSS_DOWN, _CROSS_DOWN],
    "up_block_types": [_CROSS_UP, _CROSS_UP, _UP],
    "norm_num_groups": 8,
}
# What DEMO_UNET is to by bk-sdm-tiny's rule; small enough to be trained on a CPU.
DEMO_TEACHER_UNET = {
    **DEMO_UNET,
    "layers_per_block": 2,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
}
SD_VAE = {
    "sample_size": 256,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
TINY_VAE = {
    **SD_VAE,
    "sample_size": 128,
    "block_out_channels": [8, 8, 16, 16],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
DEMO_VAE = {**SD_VAE, "block_out_channels": [32, 64, 64, 64], "layers_per_block": 1, "norm_num_groups": 16}
# The decoder of TAESD, the small autoencoder for Stable Diffusion's latents, as diffusers' AutoencoderTiny has it.
TAESD_DECODER = {
    "decoder_block_out_channels": [64, 64, 64, 64],
    "num_decoder_blocks": [3, 3, 3, 1],
    # The encoder is there because AutoencoderTiny has one, and as small as it can be.
    "encoder_block_out_channels": [1],
    "num_encoder_blocks": [1],
}
HALF_TAESD_DECODER = {**TAESD_DECODER, "decoder_block_out_channels": [32, 32, 32, 32]}
DEMO_DECODER = {**TAESD_DECODER, "decoder_block_out_channels": [16, 16, 16, 16]}
WHISPER_TINY = {
    "d_model": 384,
    "encoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    # The decoder is there because WhisperModel has one, and as small as it can be.
    "decoder_layers": 1,
    "decoder_attention_heads": 1,
    "decoder_ffn_dim": 8,
    "max_target_positions": 8,
    "vocab_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
TINY_WHISPER = {
    **WHISPER_TINY,
    "d_model": 64,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 128,
}
DEMO_WHISPER = {
    **WHISPER_TINY,
    "d_model": 128,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 512,
}

"""The graph of Whisper's encoder, for any length: transformers' own takes 30 s and nothing else."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from musetalk_export.graphs.attention import attend, split_heads


class AudioGraph(nn.Module):
    """``mel [N, mel_bins, T]`` -> ``states [N, T / 2, layers + 1, width]``, FP32; T is even and at most 30 s.

    The states are those of transformers' ``output_hidden_states``: after the embedding, after each layer but the
    last, and after the last layer and the final norm. A shorter input takes the first of the position embeddings.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.conv1, self.conv2 = encoder.conv1, encoder.conv2
        self.positions = encoder.embed_positions.weight
        self.layers = nn.ModuleList(_Layer(layer) for layer in encoder.layers)
        self.layer_norm = encoder.layer_norm

    def forward(self, mel: Tensor) -> Tensor:
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).permute(0, 2, 1)
        x = x + self.positions[: x.shape[1]]
        states = [x]
        for layer in self.layers:
            x = layer(x)
            states.append(x)
        states[-1] = self.layer_norm(x)
        return torch.stack(states, dim=2)


class _Layer(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.self_attn_layer_norm, self.final_layer_norm = layer.self_attn_layer_norm, layer.final_layer_norm
        self.self_attn = _Attention(layer.self_attn)
        self.fc1, self.activation, self.fc2 = layer.fc1, layer.activation_fn, layer.fc2

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        y: Tensor = x + self.fc2(self.activation(self.fc1(self.final_layer_norm(x))))
        return y


class _Attention(nn.Module):
    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = attention.q_proj, attention.k_proj, attention.v_proj
        self.out_proj = attention.out_proj
        self.heads, self.scale = int(attention.num_heads), float(attention.scaling)

    def forward(self, x: Tensor) -> Tensor:
        query = split_heads(self.q_proj(x) * self.scale, self.heads, None)
        key = split_heads(self.k_proj(x), self.heads, None)
        value = split_heads(self.v_proj(x), self.heads, None)
        y: Tensor = self.out_proj(attend(query, key, value).flatten(2))
        return y

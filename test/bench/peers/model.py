"""
Joint pre-training (MLM + MIM + WPA) of the document model, as one would write it in PyTorch. Parameter names are Octavo's, so that
its weights load with load_state_dict. Shape letters: B pages, T text tokens, P patches, M = 1 + P + T, D width, H heads, K head width.
"""
import math
import torch
import torch.nn.functional as F
from torch import nn

FUSED_ATTENTION = getattr(F, "scaled_dot_product_attention", None)  # since PyTorch 2.0


def attend(q, k, v, mask=None):
    """q, k, v (B, H, N, K); mask broadcasts to (B, H, N, N) and is added to the scaled scores -> (B, N, H*K)."""
    if FUSED_ATTENTION is not None:
        out = FUSED_ATTENTION(q, k, v, attn_mask=mask)
    else:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        out = F.softmax(scores if mask is None else scores + mask, -1) @ v
    return out.transpose(1, 2).flatten(2)


def heads_of(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def key_mask(mask, dtype):
    """mask (B, N), 1 = real -> (B, 1, 1, N) of 0 and -inf."""
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(mask == 0, -math.inf)[:, None, None, :]


class LayerNorm(nn.LayerNorm):
    """PyTorch 1.13 wants weight and bias in the dtype of x, which autocast makes bfloat16."""

    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class PackedAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x, mask=None):
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v, mask))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class BeitBlock(nn.Module):
    def __init__(self, width, heads, eps):
        super().__init__()
        self.gamma_1, self.gamma_2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.norm1, self.norm2 = LayerNorm(width, eps), LayerNorm(width, eps)
        self.attn, self.mlp = PackedAttention(width, heads), Mlp(width)

    def forward(self, x, bias):
        x = x + self.gamma_1 * self.attn(self.norm1(x), bias)
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class RelativePositionBias(nn.Module):
    """Table (T, H) -> (1, H, N, N), N = 1 + grid^2."""

    def __init__(self, grid, heads):
        super().__init__()
        pairs = (2 * grid - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.zeros(pairs + 3, heads))
        row, col = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
        row, col = row.flatten(), col.flatten()
        index = torch.empty(1 + grid * grid, 1 + grid * grid, dtype=torch.long)
        index[1:, 1:] = (row[:, None] - row + grid - 1) * (2 * grid - 1) + col[:, None] - col + grid - 1
        index[0, :], index[:, 0], index[0, 0] = pairs, pairs + 1, pairs + 2
        self.register_buffer("index", index, persistent=False)

    def forward(self):
        return self.relative_position_bias_table[self.index.flatten()].view(*self.index.shape, -1).permute(2, 0, 1).contiguous()[None]


class ImageEncoder(nn.Module):
    def __init__(self, width, layers, heads, patch, grid, eps, **_):
        super().__init__()
        self.cls_token, self.mask_token = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.rel_pos_bias = RelativePositionBias(grid, heads)
        self.blocks = nn.ModuleList(BeitBlock(width, heads, eps) for _ in range(layers))
        self.norm = LayerNorm(width, eps)

    def forward(self, pixels, patch_mask):
        x = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        x = torch.where(patch_mask[:, :, None] != 0, self.mask_token, x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        bias = self.rel_pos_bias()
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))


def rotate(x, cos, sin):
    """x (B, H, T, K), cos and sin (T, K/2): element i pairs with i + K/2."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class LlamaLayer(nn.Module):
    def __init__(self, width, heads, kv_heads, head_dim, hidden, eps, **_):
        super().__init__()
        self.heads, self.kv_heads = heads, kv_heads
        project = lambda i, o: nn.Linear(i, o, bias=False)
        self.self_attn = nn.ModuleDict({
            "q_proj": project(width, heads * head_dim), "k_proj": project(width, kv_heads * head_dim),
            "v_proj": project(width, kv_heads * head_dim), "o_proj": project(heads * head_dim, width)})
        self.mlp = nn.ModuleDict({"gate_proj": project(width, hidden), "up_proj": project(width, hidden), "down_proj": project(hidden, width)})
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(width, eps), RmsNorm(width, eps)

    def forward(self, x, cos, sin, mask):
        h, attn, repeat = self.input_layernorm(x), self.self_attn, self.heads // self.kv_heads
        q = rotate(heads_of(attn["q_proj"](h), self.heads), cos, sin)
        k = rotate(heads_of(attn["k_proj"](h), self.kv_heads), cos, sin).repeat_interleave(repeat, 1)
        v = heads_of(attn["v_proj"](h), self.kv_heads).repeat_interleave(repeat, 1)
        x = x + attn["o_proj"](attend(q, k, v, mask))
        h = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](h)) * self.mlp["up_proj"](h))


class TextEncoder(nn.Module):
    def __init__(self, vocabulary, layers, head_dim, rope_theta, **o):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, o["width"])
        self.layers = nn.ModuleList(LlamaLayer(head_dim=head_dim, **o) for _ in range(layers))
        self.norm = RmsNorm(o["width"], o["eps"])
        frequency = rope_theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, ids, mask):
        x = self.embed_tokens(ids)
        angle = torch.outer(torch.arange(ids.shape[1], dtype=torch.float64), self.frequency.double())
        cos, sin, hidden = angle.cos().to(x.dtype), angle.sin().to(x.dtype), key_mask(mask, x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, hidden)
        return self.norm(x)


class FourierPositions(nn.Module):
    def __init__(self, width, features, hidden, coord_scale, grid, **_):
        super().__init__()
        self.coord_scale, self.features = coord_scale, features
        self.Wr = nn.Linear(2, features // 2, bias=False)
        self.mlp = nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, width // 2))
        self.no_box = nn.Parameter(torch.zeros(width))
        edge = torch.arange(grid, dtype=torch.float64)
        y, x = torch.meshgrid(edge, edge, indexing="ij")
        boxes = torch.stack([x, y, x + 1, y + 1], -1).view(-1, 4) / grid
        self.register_buffer("patch_boxes", torch.cat([torch.tensor([[0.0, 0, 1, 1]]).double(), boxes]).float(), persistent=False)

    def encode(self, boxes):
        angle = self.Wr(self.coord_scale * boxes.unflatten(-1, (2, 2)))
        return self.mlp(torch.cat([angle.cos(), angle.sin()], -1) / math.sqrt(self.features)).flatten(-2)

    def forward(self, text_boxes, has_box):
        return self.encode(self.patch_boxes), torch.where(has_box[:, :, None] != 0, self.encode(text_boxes), self.no_box)


class MultiwayBlock(nn.Module):
    def __init__(self, width, heads, eps, shared):
        super().__init__()
        self.gamma_1, self.gamma_2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.norm1, self.attn, self.shared = LayerNorm(width, eps), PackedAttention(width, heads), shared
        for expert in ["vl"] if shared else ["imag", "text"]:
            self.add_module(f"norm2_{expert}", LayerNorm(width, eps))
            self.add_module(f"mlp_{expert}", Mlp(width))

    def forward(self, x, image_tokens, mask):
        x = x + self.gamma_1 * self.attn(self.norm1(x), mask)
        if self.shared:
            return x + self.gamma_2 * self.mlp_vl(self.norm2_vl(x))
        image, text = x[:, :image_tokens], x[:, image_tokens:]
        return torch.cat([image + self.gamma_2 * self.mlp_imag(self.norm2_imag(image)), text + self.gamma_2 * self.mlp_text(self.norm2_text(text))], 1)


class Fusion(nn.Module):
    def __init__(self, width, layers, heads, vision_language_layers, eps, **_):
        super().__init__()
        self.type_embed = nn.Embedding(2, width)
        self.blocks = nn.ModuleList(MultiwayBlock(width, heads, eps, i >= layers - vision_language_layers) for i in range(layers))
        self.norm = LayerNorm(width, eps)

    def forward(self, image, text, text_mask):
        """image (B, 1 + P, D), text (B, T, D) -> memory (B, M, D)"""
        types = self.type_embed.weight
        x = torch.cat([image + types[0], text + types[1]], 1)
        mask = key_mask(torch.cat([torch.ones(image.shape[:2], dtype=text_mask.dtype), text_mask], 1), x.dtype)
        for block in self.blocks:
            x = block(x, image.shape[1], mask)
        return self.norm(x)


class TeacherBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attn = nn.ParameterDict({"in_proj_weight": torch.zeros(3 * width, width), "in_proj_bias": torch.zeros(3 * width)})
        self.attn.add_module("out_proj", nn.Linear(width, width))
        self.ln_1, self.ln_2 = LayerNorm(width), LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x):
        q, k, v = F.linear(self.ln_1(x), self.attn["in_proj_weight"], self.attn["in_proj_bias"]).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.attn.out_proj(attend(q, k, v))
        h = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](h * torch.sigmoid(1.702 * h))


class Teacher(nn.Module):
    """A frozen CLIP tower. pixels in the student's normalisation -> (B, P, Tw)"""

    def __init__(self, width, layers, heads, patch, grid, targets, **_):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding, self.positional_embedding = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(1 + grid * grid, width))
        self.ln_pre, self.ln_post = LayerNorm(width), LayerNorm(width)
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(TeacherBlock(width, heads) for _ in range(layers))})
        self.proj = nn.Parameter(torch.zeros(width, targets))
        channels = lambda values: torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
        self.student = channels([0.485, 0.456, 0.406]), channels([0.229, 0.224, 0.225])
        self.own = channels([0.48145466, 0.4578275, 0.40821073]), channels([0.26862954, 0.26130258, 0.27577711])

    @torch.no_grad()
    def forward(self, pixels):
        mean, deviation, own_mean, own_deviation = (t.to(pixels.dtype) for t in (*self.student, *self.own))
        pixels = ((pixels * deviation + mean).clamp(0, 1) - own_mean) / own_deviation
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer["resblocks"]:
            x = block(x)
        return self.ln_post(x[:, 1:]) @ self.proj


class Model(nn.Module):
    def __init__(self, o):
        """o: options by component, as in the recipe."""
        super().__init__()
        width, text_width, self.image_tokens = o["fusion"]["width"], o["text"]["width"], 1 + o["fusion"]["grid"] ** 2
        grid = o["fusion"]["grid"]
        self.vision, self.text, self.lff = ImageEncoder(grid=grid, **o["image"]), TextEncoder(**o["text"]), FourierPositions(**o["position"])
        self.teacher = Teacher(grid=grid, **o["teacher"]).requires_grad_(False)
        self.proj = nn.ModuleDict({"vision": nn.Linear(o["image"]["width"], width), "text": nn.Linear(text_width, width)})
        self.fusion = Fusion(**o["fusion"])
        mlm = nn.ModuleDict({"dense": nn.Linear(width, text_width), "ln": LayerNorm(text_width, 1e-5)})
        mlm.register_parameter("bias", nn.Parameter(torch.zeros(o["text"]["vocabulary"])))
        self.head = nn.ModuleDict({
            "mlm": mlm, "mim": nn.ModuleDict({"out": nn.Linear(width, o["mim"]["targets"])}),
            "wpa": nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))})

    def forward(self, b, counts):
        """One (micro)batch -> its share of the three losses of the whole batch."""
        image, text = self.vision(b["pixels"], b["patch_mask"]), self.text(b["text_ids"], b["text_mask"])
        image_position, text_position = self.lff(b["text_boxes"], b["has_box"])
        memory = self.fusion(self.proj["vision"](image) + image_position, self.proj["text"](text) + text_position, b["text_mask"])
        patches, words = memory[:, 1:self.image_tokens].flatten(0, 1), memory[:, self.image_tokens:].flatten(0, 1)

        mlm = self.head["mlm"]
        hidden = mlm["ln"](F.gelu(mlm["dense"](words[b["mlm_index"]])))
        mlm_loss = F.cross_entropy(F.linear(hidden, self.text.embed_tokens.weight, mlm.bias), b["mlm_targets"], reduction="sum")
        targets = self.teacher(b["pixels"]).flatten(0, 1)[b["mim_index"]]
        mim_loss = (1 - F.cosine_similarity(self.head["mim"]["out"](patches[b["mim_index"]]), targets)).sum()
        labels = b["wpa_labels"].flatten()
        asked = (labels != -100).nonzero().squeeze(1)
        wpa_loss = F.binary_cross_entropy_with_logits(self.head["wpa"](words[asked]).squeeze(-1), labels[asked].to(memory.dtype), reduction="sum")
        return {"mlm": mlm_loss / counts["mlm_tokens"], "mim": mim_loss / counts["mim_patches"], "wpa": wpa_loss / counts["wpa_tokens"]}

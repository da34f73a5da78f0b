import { decodeMessage, encodeMessage, MaxLengthError, message, streamMessage } from 'protons-runtime';
import { alloc as uint8ArrayAlloc } from 'uint8arrays/alloc';
export var Hello;
(function (Hello) {
    let _codec;
    Hello.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.agent != null && obj.agent !== '')) {
                    w.uint32(10);
                    w.string(obj.agent);
                }
                if ((obj.records != null && obj.records !== 0)) {
                    w.uint32(16);
                    w.uint32(obj.records);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    agent: '',
                    records: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.agent = reader.string();
                            break;
                        }
                        case 2: {
                            obj.records = reader.uint32();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.agent`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.records`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Hello.codec());
    }
    Hello.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Hello.codec(), opts);
    }
    Hello.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Hello.codec(), opts);
    }
    Hello.stream = stream;
})(Hello || (Hello = {}));
export var Open;
(function (Open) {
    let _codec;
    Open.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.image != null && obj.image.byteLength > 0)) {
                    w.uint32(10);
                    w.bytes(obj.image);
                }
                if ((obj.index != null && obj.index !== 0)) {
                    w.uint32(16);
                    w.uint32(obj.index);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    image: uint8ArrayAlloc(0),
                    index: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.image = reader.bytes();
                            break;
                        }
                        case 2: {
                            obj.index = reader.uint32();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.image`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.index`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Open.codec());
    }
    Open.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Open.codec(), opts);
    }
    Open.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Open.codec(), opts);
    }
    Open.stream = stream;
})(Open || (Open = {}));
export var IndexPart;
(function (IndexPart) {
    let _codec;
    IndexPart.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.level != null && obj.level !== 0)) {
                    w.uint32(8);
                    w.uint32(obj.level);
                }
                if ((obj.position != null && obj.position !== 0)) {
                    w.uint32(16);
                    w.uint32(obj.position);
                }
                if ((obj.node != null && obj.node.byteLength > 0)) {
                    w.uint32(26);
                    w.bytes(obj.node);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    level: 0,
                    position: 0,
                    node: uint8ArrayAlloc(0)
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.level = reader.uint32();
                            break;
                        }
                        case 2: {
                            obj.position = reader.uint32();
                            break;
                        }
                        case 3: {
                            obj.node = reader.bytes();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.level`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.position`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.node`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, IndexPart.codec());
    }
    IndexPart.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, IndexPart.codec(), opts);
    }
    IndexPart.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, IndexPart.codec(), opts);
    }
    IndexPart.stream = stream;
})(IndexPart || (IndexPart = {}));
export var Image;
(function (Image) {
    let _codec;
    Image.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.root != null && obj.root.byteLength > 0)) {
                    w.uint32(10);
                    w.bytes(obj.root);
                }
                if ((obj.top != null && obj.top.byteLength > 0)) {
                    w.uint32(18);
                    w.bytes(obj.top);
                }
                if ((obj.complete != null && obj.complete !== false)) {
                    w.uint32(24);
                    w.bool(obj.complete);
                }
                if ((obj.follow != null && obj.follow !== 0)) {
                    w.uint32(32);
                    w.uint32(obj.follow);
                }
                if ((obj.profile != null && obj.profile.byteLength > 0)) {
                    w.uint32(42);
                    w.bytes(obj.profile);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    root: uint8ArrayAlloc(0),
                    top: uint8ArrayAlloc(0),
                    complete: false,
                    follow: 0,
                    profile: uint8ArrayAlloc(0)
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.root = reader.bytes();
                            break;
                        }
                        case 2: {
                            obj.top = reader.bytes();
                            break;
                        }
                        case 3: {
                            obj.complete = reader.bool();
                            break;
                        }
                        case 4: {
                            obj.follow = reader.uint32();
                            break;
                        }
                        case 5: {
                            obj.profile = reader.bytes();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.root`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.top`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.complete`,
                                value: reader.bool()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.follow`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 5: {
                            yield {
                                field: `${prefix}.profile`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Image.codec());
    }
    Image.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Image.codec(), opts);
    }
    Image.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Image.codec(), opts);
    }
    Image.stream = stream;
})(Image || (Image = {}));
export var NodeRef;
(function (NodeRef) {
    let _codec;
    NodeRef.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.level != null && obj.level !== 0)) {
                    w.uint32(8);
                    w.uint32(obj.level);
                }
                if ((obj.position != null && obj.position !== 0)) {
                    w.uint32(16);
                    w.uint32(obj.position);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    level: 0,
                    position: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.level = reader.uint32();
                            break;
                        }
                        case 2: {
                            obj.position = reader.uint32();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.level`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.position`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, NodeRef.codec());
    }
    NodeRef.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, NodeRef.codec(), opts);
    }
    NodeRef.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, NodeRef.codec(), opts);
    }
    NodeRef.stream = stream;
})(NodeRef || (NodeRef = {}));
export var GetNodes;
(function (GetNodes) {
    let _codec;
    GetNodes.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if (obj.refs != null && obj.refs.length > 0) {
                    for (const value of obj.refs) {
                        w.uint32(10);
                        NodeRef.codec().encode(value, w);
                    }
                }
                if ((obj.priority != null && obj.priority !== 0)) {
                    w.uint32(16);
                    w.uint32(obj.priority);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    refs: [],
                    priority: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.refs != null && obj.refs.length === opts.limits.refs) {
                                throw new MaxLengthError('Decode error - repeated field "refs" had too many elements');
                            }
                            obj.refs.push(NodeRef.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.refs$
                            }));
                            break;
                        }
                        case 2: {
                            obj.priority = reader.uint32();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    refs: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.refs != null && obj.refs === opts.limits.refs) {
                                throw new MaxLengthError('Streaming decode error - repeated field "refs" had too many elements');
                            }
                            for (const evt of NodeRef.codec().stream(reader, reader.uint32(), `${prefix}.refs[]`, {
                                limits: opts.limits?.refs$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.refs
                                };
                            }
                            obj.refs++;
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.priority`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, GetNodes.codec());
    }
    GetNodes.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, GetNodes.codec(), opts);
    }
    GetNodes.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, GetNodes.codec(), opts);
    }
    GetNodes.stream = stream;
})(GetNodes || (GetNodes = {}));
export var Nodes;
(function (Nodes) {
    let _codec;
    Nodes.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if (obj.parts != null && obj.parts.length > 0) {
                    for (const value of obj.parts) {
                        w.uint32(10);
                        IndexPart.codec().encode(value, w);
                    }
                }
                if (obj.missing != null && obj.missing.length > 0) {
                    for (const value of obj.missing) {
                        w.uint32(18);
                        NodeRef.codec().encode(value, w);
                    }
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    parts: [],
                    missing: []
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.parts != null && obj.parts.length === opts.limits.parts) {
                                throw new MaxLengthError('Decode error - repeated field "parts" had too many elements');
                            }
                            obj.parts.push(IndexPart.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.parts$
                            }));
                            break;
                        }
                        case 2: {
                            if (opts.limits?.missing != null && obj.missing.length === opts.limits.missing) {
                                throw new MaxLengthError('Decode error - repeated field "missing" had too many elements');
                            }
                            obj.missing.push(NodeRef.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.missing$
                            }));
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    parts: 0,
                    missing: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.parts != null && obj.parts === opts.limits.parts) {
                                throw new MaxLengthError('Streaming decode error - repeated field "parts" had too many elements');
                            }
                            for (const evt of IndexPart.codec().stream(reader, reader.uint32(), `${prefix}.parts[]`, {
                                limits: opts.limits?.parts$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.parts
                                };
                            }
                            obj.parts++;
                            break;
                        }
                        case 2: {
                            if (opts.limits?.missing != null && obj.missing === opts.limits.missing) {
                                throw new MaxLengthError('Streaming decode error - repeated field "missing" had too many elements');
                            }
                            for (const evt of NodeRef.codec().stream(reader, reader.uint32(), `${prefix}.missing[]`, {
                                limits: opts.limits?.missing$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.missing
                                };
                            }
                            obj.missing++;
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Nodes.codec());
    }
    Nodes.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Nodes.codec(), opts);
    }
    Nodes.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Nodes.codec(), opts);
    }
    Nodes.stream = stream;
})(Nodes || (Nodes = {}));
export var Want;
(function (Want) {
    let _codec;
    Want.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if (obj.blocks != null && obj.blocks.length > 0) {
                    for (const value of obj.blocks) {
                        w.uint32(8);
                        w.uint32(value);
                    }
                }
                if ((obj.priority != null && obj.priority !== 0)) {
                    w.uint32(16);
                    w.uint32(obj.priority);
                }
                if ((obj.acceptZstd != null && obj.acceptZstd !== false)) {
                    w.uint32(24);
                    w.bool(obj.acceptZstd);
                }
                if ((obj.onBehalf != null && obj.onBehalf !== false)) {
                    w.uint32(32);
                    w.bool(obj.onBehalf);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    blocks: [],
                    priority: 0,
                    acceptZstd: false,
                    onBehalf: false
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.blocks != null && obj.blocks.length === opts.limits.blocks) {
                                throw new MaxLengthError('Decode error - repeated field "blocks" had too many elements');
                            }
                            obj.blocks.push(reader.uint32());
                            break;
                        }
                        case 2: {
                            obj.priority = reader.uint32();
                            break;
                        }
                        case 3: {
                            obj.acceptZstd = reader.bool();
                            break;
                        }
                        case 4: {
                            obj.onBehalf = reader.bool();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    blocks: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.blocks != null && obj.blocks === opts.limits.blocks) {
                                throw new MaxLengthError('Streaming decode error - repeated field "blocks" had too many elements');
                            }
                            yield {
                                field: `${prefix}.blocks[]`,
                                index: obj.blocks,
                                value: reader.uint32()
                            };
                            obj.blocks++;
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.priority`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.acceptZstd`,
                                value: reader.bool()
                            };
                            break;
                        }
                        case 4: {
                            yield {
                                field: `${prefix}.onBehalf`,
                                value: reader.bool()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Want.codec());
    }
    Want.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Want.codec(), opts);
    }
    Want.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Want.codec(), opts);
    }
    Want.stream = stream;
})(Want || (Want = {}));
export var Raise;
(function (Raise) {
    let _codec;
    Raise.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if (obj.blocks != null && obj.blocks.length > 0) {
                    for (const value of obj.blocks) {
                        w.uint32(8);
                        w.uint32(value);
                    }
                }
                if ((obj.priority != null && obj.priority !== 0)) {
                    w.uint32(16);
                    w.uint32(obj.priority);
                }
                if (obj.nodes != null && obj.nodes.length > 0) {
                    for (const value of obj.nodes) {
                        w.uint32(26);
                        NodeRef.codec().encode(value, w);
                    }
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    blocks: [],
                    priority: 0,
                    nodes: []
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.blocks != null && obj.blocks.length === opts.limits.blocks) {
                                throw new MaxLengthError('Decode error - repeated field "blocks" had too many elements');
                            }
                            obj.blocks.push(reader.uint32());
                            break;
                        }
                        case 2: {
                            obj.priority = reader.uint32();
                            break;
                        }
                        case 3: {
                            if (opts.limits?.nodes != null && obj.nodes.length === opts.limits.nodes) {
                                throw new MaxLengthError('Decode error - repeated field "nodes" had too many elements');
                            }
                            obj.nodes.push(NodeRef.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.nodes$
                            }));
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    blocks: 0,
                    nodes: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.blocks != null && obj.blocks === opts.limits.blocks) {
                                throw new MaxLengthError('Streaming decode error - repeated field "blocks" had too many elements');
                            }
                            yield {
                                field: `${prefix}.blocks[]`,
                                index: obj.blocks,
                                value: reader.uint32()
                            };
                            obj.blocks++;
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.priority`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 3: {
                            if (opts.limits?.nodes != null && obj.nodes === opts.limits.nodes) {
                                throw new MaxLengthError('Streaming decode error - repeated field "nodes" had too many elements');
                            }
                            for (const evt of NodeRef.codec().stream(reader, reader.uint32(), `${prefix}.nodes[]`, {
                                limits: opts.limits?.nodes$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.nodes
                                };
                            }
                            obj.nodes++;
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Raise.codec());
    }
    Raise.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Raise.codec(), opts);
    }
    Raise.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Raise.codec(), opts);
    }
    Raise.stream = stream;
})(Raise || (Raise = {}));
export var Cancel;
(function (Cancel) {
    let _codec;
    Cancel.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if (obj.blocks != null && obj.blocks.length > 0) {
                    for (const value of obj.blocks) {
                        w.uint32(8);
                        w.uint32(value);
                    }
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    blocks: []
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.blocks != null && obj.blocks.length === opts.limits.blocks) {
                                throw new MaxLengthError('Decode error - repeated field "blocks" had too many elements');
                            }
                            obj.blocks.push(reader.uint32());
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    blocks: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.blocks != null && obj.blocks === opts.limits.blocks) {
                                throw new MaxLengthError('Streaming decode error - repeated field "blocks" had too many elements');
                            }
                            yield {
                                field: `${prefix}.blocks[]`,
                                index: obj.blocks,
                                value: reader.uint32()
                            };
                            obj.blocks++;
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Cancel.codec());
    }
    Cancel.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Cancel.codec(), opts);
    }
    Cancel.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Cancel.codec(), opts);
    }
    Cancel.stream = stream;
})(Cancel || (Cancel = {}));
export var Missing;
(function (Missing) {
    let _codec;
    Missing.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if (obj.blocks != null && obj.blocks.length > 0) {
                    for (const value of obj.blocks) {
                        w.uint32(8);
                        w.uint32(value);
                    }
                }
                if ((obj.reason != null && obj.reason !== 0)) {
                    w.uint32(16);
                    w.uint32(obj.reason);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    blocks: [],
                    reason: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.blocks != null && obj.blocks.length === opts.limits.blocks) {
                                throw new MaxLengthError('Decode error - repeated field "blocks" had too many elements');
                            }
                            obj.blocks.push(reader.uint32());
                            break;
                        }
                        case 2: {
                            obj.reason = reader.uint32();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    blocks: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.blocks != null && obj.blocks === opts.limits.blocks) {
                                throw new MaxLengthError('Streaming decode error - repeated field "blocks" had too many elements');
                            }
                            yield {
                                field: `${prefix}.blocks[]`,
                                index: obj.blocks,
                                value: reader.uint32()
                            };
                            obj.blocks++;
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.reason`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Missing.codec());
    }
    Missing.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Missing.codec(), opts);
    }
    Missing.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Missing.codec(), opts);
    }
    Missing.stream = stream;
})(Missing || (Missing = {}));
export var HavePage;
(function (HavePage) {
    let _codec;
    HavePage.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.page != null && obj.page !== 0)) {
                    w.uint32(8);
                    w.uint32(obj.page);
                }
                if ((obj.bitmap != null && obj.bitmap.byteLength > 0)) {
                    w.uint32(18);
                    w.bytes(obj.bitmap);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    page: 0,
                    bitmap: uint8ArrayAlloc(0)
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.page = reader.uint32();
                            break;
                        }
                        case 2: {
                            obj.bitmap = reader.bytes();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.page`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.bitmap`,
                                value: reader.bytes()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, HavePage.codec());
    }
    HavePage.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, HavePage.codec(), opts);
    }
    HavePage.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, HavePage.codec(), opts);
    }
    HavePage.stream = stream;
})(HavePage || (HavePage = {}));
export var Have;
(function (Have) {
    let _codec;
    Have.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.complete != null && obj.complete !== false)) {
                    w.uint32(8);
                    w.bool(obj.complete);
                }
                if (obj.pages != null && obj.pages.length > 0) {
                    for (const value of obj.pages) {
                        w.uint32(18);
                        HavePage.codec().encode(value, w);
                    }
                }
                if ((obj.helps != null && obj.helps !== false)) {
                    w.uint32(24);
                    w.bool(obj.helps);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    complete: false,
                    pages: [],
                    helps: false
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.complete = reader.bool();
                            break;
                        }
                        case 2: {
                            if (opts.limits?.pages != null && obj.pages.length === opts.limits.pages) {
                                throw new MaxLengthError('Decode error - repeated field "pages" had too many elements');
                            }
                            obj.pages.push(HavePage.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.pages$
                            }));
                            break;
                        }
                        case 3: {
                            obj.helps = reader.bool();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    pages: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.complete`,
                                value: reader.bool()
                            };
                            break;
                        }
                        case 2: {
                            if (opts.limits?.pages != null && obj.pages === opts.limits.pages) {
                                throw new MaxLengthError('Streaming decode error - repeated field "pages" had too many elements');
                            }
                            for (const evt of HavePage.codec().stream(reader, reader.uint32(), `${prefix}.pages[]`, {
                                limits: opts.limits?.pages$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.pages
                                };
                            }
                            obj.pages++;
                            break;
                        }
                        case 3: {
                            yield {
                                field: `${prefix}.helps`,
                                value: reader.bool()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Have.codec());
    }
    Have.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Have.codec(), opts);
    }
    Have.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Have.codec(), opts);
    }
    Have.stream = stream;
})(Have || (Have = {}));
export var PeerHint;
(function (PeerHint) {
    let _codec;
    PeerHint.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.peer != null && obj.peer !== '')) {
                    w.uint32(10);
                    w.string(obj.peer);
                }
                if (obj.addresses != null && obj.addresses.length > 0) {
                    for (const value of obj.addresses) {
                        w.uint32(18);
                        w.string(value);
                    }
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    peer: '',
                    addresses: []
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.peer = reader.string();
                            break;
                        }
                        case 2: {
                            if (opts.limits?.addresses != null && obj.addresses.length === opts.limits.addresses) {
                                throw new MaxLengthError('Decode error - repeated field "addresses" had too many elements');
                            }
                            obj.addresses.push(reader.string());
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    addresses: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.peer`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 2: {
                            if (opts.limits?.addresses != null && obj.addresses === opts.limits.addresses) {
                                throw new MaxLengthError('Streaming decode error - repeated field "addresses" had too many elements');
                            }
                            yield {
                                field: `${prefix}.addresses[]`,
                                index: obj.addresses,
                                value: reader.string()
                            };
                            obj.addresses++;
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, PeerHint.codec());
    }
    PeerHint.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, PeerHint.codec(), opts);
    }
    PeerHint.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, PeerHint.codec(), opts);
    }
    PeerHint.stream = stream;
})(PeerHint || (PeerHint = {}));
export var Busy;
(function (Busy) {
    let _codec;
    Busy.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if (obj.others != null && obj.others.length > 0) {
                    for (const value of obj.others) {
                        w.uint32(10);
                        PeerHint.codec().encode(value, w);
                    }
                }
                if ((obj.retryAfterMs != null && obj.retryAfterMs !== 0)) {
                    w.uint32(16);
                    w.uint32(obj.retryAfterMs);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    others: [],
                    retryAfterMs: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.others != null && obj.others.length === opts.limits.others) {
                                throw new MaxLengthError('Decode error - repeated field "others" had too many elements');
                            }
                            obj.others.push(PeerHint.codec().decode(reader, reader.uint32(), {
                                limits: opts.limits?.others$
                            }));
                            break;
                        }
                        case 2: {
                            obj.retryAfterMs = reader.uint32();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const obj = {
                    others: 0
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            if (opts.limits?.others != null && obj.others === opts.limits.others) {
                                throw new MaxLengthError('Streaming decode error - repeated field "others" had too many elements');
                            }
                            for (const evt of PeerHint.codec().stream(reader, reader.uint32(), `${prefix}.others[]`, {
                                limits: opts.limits?.others$
                            })) {
                                yield {
                                    ...evt,
                                    index: obj.others
                                };
                            }
                            obj.others++;
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.retryAfterMs`,
                                value: reader.uint32()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Busy.codec());
    }
    Busy.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Busy.codec(), opts);
    }
    Busy.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Busy.codec(), opts);
    }
    Busy.stream = stream;
})(Busy || (Busy = {}));
export var Problem;
(function (Problem) {
    let _codec;
    Problem.codec = () => {
        if (_codec == null) {
            _codec = message((obj, w, opts = {}) => {
                if (opts.lengthDelimited !== false) {
                    w.fork();
                }
                if ((obj.code != null && obj.code !== '')) {
                    w.uint32(10);
                    w.string(obj.code);
                }
                if ((obj.message != null && obj.message !== '')) {
                    w.uint32(18);
                    w.string(obj.message);
                }
                if (opts.lengthDelimited !== false) {
                    w.ldelim();
                }
            }, (reader, length, opts = {}) => {
                const obj = {
                    code: '',
                    message: ''
                };
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            obj.code = reader.string();
                            break;
                        }
                        case 2: {
                            obj.message = reader.string();
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
                return obj;
            }, function* (reader, length, prefix, opts = {}) {
                const end = length == null ? reader.len : reader.pos + length;
                while (reader.pos < end) {
                    const tag = reader.uint32();
                    switch (tag >>> 3) {
                        case 1: {
                            yield {
                                field: `${prefix}.code`,
                                value: reader.string()
                            };
                            break;
                        }
                        case 2: {
                            yield {
                                field: `${prefix}.message`,
                                value: reader.string()
                            };
                            break;
                        }
                        default: {
                            reader.skipType(tag & 7);
                            break;
                        }
                    }
                }
            });
        }
        return _codec;
    };
    function encode(obj) {
        return encodeMessage(obj, Problem.codec());
    }
    Problem.encode = encode;
    function decode(buf, opts) {
        return decodeMessage(buf, Problem.codec(), opts);
    }
    Problem.decode = decode;
    function stream(buf, opts) {
        return streamMessage(buf, Problem.codec(), opts);
    }
    Problem.stream = stream;
})(Problem || (Problem = {}));

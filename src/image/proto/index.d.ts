import type { Codec, DecodeOptions } from 'protons-runtime';
import type { Uint8ArrayList } from 'uint8arraylist';
export interface IndexNode {
    level: number;
    present: Uint8Array<ArrayBuffer>;
    hashes: Uint8Array<ArrayBuffer>;
}
export declare namespace IndexNode {
    const codec: () => Codec<IndexNode>;
    interface IndexNodeLevelFieldEvent {
        field: '$.level';
        value: number;
    }
    interface IndexNodePresentFieldEvent {
        field: '$.present';
        value: Uint8Array<ArrayBuffer>;
    }
    interface IndexNodeHashesFieldEvent {
        field: '$.hashes';
        value: Uint8Array<ArrayBuffer>;
    }
    function encode(obj: Partial<IndexNode>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<IndexNode>): IndexNode;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<IndexNode>): Generator<IndexNodeLevelFieldEvent | IndexNodePresentFieldEvent | IndexNodeHashesFieldEvent>;
}
export interface ImageRoot {
    format: number;
    sizeBytes: number;
    zeroBlocks: number;
    top?: Uint8Array<ArrayBuffer>;
}
export declare namespace ImageRoot {
    const codec: () => Codec<ImageRoot>;
    interface ImageRootFormatFieldEvent {
        field: '$.format';
        value: number;
    }
    interface ImageRootSizeBytesFieldEvent {
        field: '$.sizeBytes';
        value: number;
    }
    interface ImageRootZeroBlocksFieldEvent {
        field: '$.zeroBlocks';
        value: number;
    }
    interface ImageRootTopFieldEvent {
        field: '$.top';
        value: Uint8Array<ArrayBuffer>;
    }
    function encode(obj: Partial<ImageRoot>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<ImageRoot>): ImageRoot;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<ImageRoot>): Generator<ImageRootFormatFieldEvent | ImageRootSizeBytesFieldEvent | ImageRootZeroBlocksFieldEvent | ImageRootTopFieldEvent>;
}

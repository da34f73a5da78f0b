import type { Codec, DecodeOptions } from 'protons-runtime';
import type { Uint8ArrayList } from 'uint8arraylist';
export interface Hello {
    agent: string;
    records: number;
}
export declare namespace Hello {
    const codec: () => Codec<Hello>;
    interface HelloAgentFieldEvent {
        field: '$.agent';
        value: string;
    }
    interface HelloRecordsFieldEvent {
        field: '$.records';
        value: number;
    }
    function encode(obj: Partial<Hello>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Hello>): Hello;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Hello>): Generator<HelloAgentFieldEvent | HelloRecordsFieldEvent>;
}
export interface Open {
    image: Uint8Array<ArrayBuffer>;
    index: number;
}
export declare namespace Open {
    const codec: () => Codec<Open>;
    interface OpenImageFieldEvent {
        field: '$.image';
        value: Uint8Array<ArrayBuffer>;
    }
    interface OpenIndexFieldEvent {
        field: '$.index';
        value: number;
    }
    function encode(obj: Partial<Open>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Open>): Open;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Open>): Generator<OpenImageFieldEvent | OpenIndexFieldEvent>;
}
export interface IndexPart {
    level: number;
    position: number;
    node: Uint8Array<ArrayBuffer>;
}
export declare namespace IndexPart {
    const codec: () => Codec<IndexPart>;
    interface IndexPartLevelFieldEvent {
        field: '$.level';
        value: number;
    }
    interface IndexPartPositionFieldEvent {
        field: '$.position';
        value: number;
    }
    interface IndexPartNodeFieldEvent {
        field: '$.node';
        value: Uint8Array<ArrayBuffer>;
    }
    function encode(obj: Partial<IndexPart>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<IndexPart>): IndexPart;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<IndexPart>): Generator<IndexPartLevelFieldEvent | IndexPartPositionFieldEvent | IndexPartNodeFieldEvent>;
}
export interface Image {
    root: Uint8Array<ArrayBuffer>;
    top: Uint8Array<ArrayBuffer>;
    complete: boolean;
    follow: number;
    profile: Uint8Array<ArrayBuffer>;
}
export declare namespace Image {
    const codec: () => Codec<Image>;
    interface ImageRootFieldEvent {
        field: '$.root';
        value: Uint8Array<ArrayBuffer>;
    }
    interface ImageTopFieldEvent {
        field: '$.top';
        value: Uint8Array<ArrayBuffer>;
    }
    interface ImageCompleteFieldEvent {
        field: '$.complete';
        value: boolean;
    }
    interface ImageFollowFieldEvent {
        field: '$.follow';
        value: number;
    }
    interface ImageProfileFieldEvent {
        field: '$.profile';
        value: Uint8Array<ArrayBuffer>;
    }
    function encode(obj: Partial<Image>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Image>): Image;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Image>): Generator<ImageRootFieldEvent | ImageTopFieldEvent | ImageCompleteFieldEvent | ImageFollowFieldEvent | ImageProfileFieldEvent>;
}
export interface NodeRef {
    level: number;
    position: number;
}
export declare namespace NodeRef {
    const codec: () => Codec<NodeRef>;
    interface NodeRefLevelFieldEvent {
        field: '$.level';
        value: number;
    }
    interface NodeRefPositionFieldEvent {
        field: '$.position';
        value: number;
    }
    function encode(obj: Partial<NodeRef>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<NodeRef>): NodeRef;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<NodeRef>): Generator<NodeRefLevelFieldEvent | NodeRefPositionFieldEvent>;
}
export interface GetNodes {
    refs: NodeRef[];
    priority: number;
}
export declare namespace GetNodes {
    const codec: () => Codec<GetNodes>;
    interface GetNodesRefsLevelFieldEvent {
        field: '$.refs[].level';
        value: number;
        index: number;
    }
    interface GetNodesRefsPositionFieldEvent {
        field: '$.refs[].position';
        value: number;
        index: number;
    }
    interface GetNodesPriorityFieldEvent {
        field: '$.priority';
        value: number;
    }
    function encode(obj: Partial<GetNodes>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<GetNodes>): GetNodes;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<GetNodes>): Generator<GetNodesRefsLevelFieldEvent | GetNodesRefsPositionFieldEvent | GetNodesPriorityFieldEvent>;
}
export interface Nodes {
    parts: IndexPart[];
    missing: NodeRef[];
}
export declare namespace Nodes {
    const codec: () => Codec<Nodes>;
    interface NodesPartsLevelFieldEvent {
        field: '$.parts[].level';
        value: number;
        index: number;
    }
    interface NodesPartsPositionFieldEvent {
        field: '$.parts[].position';
        value: number;
        index: number;
    }
    interface NodesPartsNodeFieldEvent {
        field: '$.parts[].node';
        value: Uint8Array<ArrayBuffer>;
        index: number;
    }
    interface NodesMissingLevelFieldEvent {
        field: '$.missing[].level';
        value: number;
        index: number;
    }
    interface NodesMissingPositionFieldEvent {
        field: '$.missing[].position';
        value: number;
        index: number;
    }
    function encode(obj: Partial<Nodes>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Nodes>): Nodes;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Nodes>): Generator<NodesPartsLevelFieldEvent | NodesPartsPositionFieldEvent | NodesPartsNodeFieldEvent | NodesMissingLevelFieldEvent | NodesMissingPositionFieldEvent>;
}
export interface Want {
    blocks: number[];
    priority: number;
    acceptZstd: boolean;
    onBehalf: boolean;
}
export declare namespace Want {
    const codec: () => Codec<Want>;
    interface WantBlocksFieldEvent {
        field: '$.blocks[]';
        index: number;
        value: number;
    }
    interface WantPriorityFieldEvent {
        field: '$.priority';
        value: number;
    }
    interface WantAcceptZstdFieldEvent {
        field: '$.acceptZstd';
        value: boolean;
    }
    interface WantOnBehalfFieldEvent {
        field: '$.onBehalf';
        value: boolean;
    }
    function encode(obj: Partial<Want>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Want>): Want;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Want>): Generator<WantBlocksFieldEvent | WantPriorityFieldEvent | WantAcceptZstdFieldEvent | WantOnBehalfFieldEvent>;
}
export interface Raise {
    blocks: number[];
    priority: number;
    nodes: NodeRef[];
}
export declare namespace Raise {
    const codec: () => Codec<Raise>;
    interface RaiseBlocksFieldEvent {
        field: '$.blocks[]';
        index: number;
        value: number;
    }
    interface RaisePriorityFieldEvent {
        field: '$.priority';
        value: number;
    }
    interface RaiseNodesLevelFieldEvent {
        field: '$.nodes[].level';
        value: number;
        index: number;
    }
    interface RaiseNodesPositionFieldEvent {
        field: '$.nodes[].position';
        value: number;
        index: number;
    }
    function encode(obj: Partial<Raise>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Raise>): Raise;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Raise>): Generator<RaiseBlocksFieldEvent | RaisePriorityFieldEvent | RaiseNodesLevelFieldEvent | RaiseNodesPositionFieldEvent>;
}
export interface Cancel {
    blocks: number[];
}
export declare namespace Cancel {
    const codec: () => Codec<Cancel>;
    interface CancelBlocksFieldEvent {
        field: '$.blocks[]';
        index: number;
        value: number;
    }
    function encode(obj: Partial<Cancel>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Cancel>): Cancel;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Cancel>): Generator<CancelBlocksFieldEvent>;
}
export interface Missing {
    blocks: number[];
    reason: number;
}
export declare namespace Missing {
    const codec: () => Codec<Missing>;
    interface MissingBlocksFieldEvent {
        field: '$.blocks[]';
        index: number;
        value: number;
    }
    interface MissingReasonFieldEvent {
        field: '$.reason';
        value: number;
    }
    function encode(obj: Partial<Missing>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Missing>): Missing;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Missing>): Generator<MissingBlocksFieldEvent | MissingReasonFieldEvent>;
}
export interface HavePage {
    page: number;
    bitmap: Uint8Array<ArrayBuffer>;
}
export declare namespace HavePage {
    const codec: () => Codec<HavePage>;
    interface HavePagePageFieldEvent {
        field: '$.page';
        value: number;
    }
    interface HavePageBitmapFieldEvent {
        field: '$.bitmap';
        value: Uint8Array<ArrayBuffer>;
    }
    function encode(obj: Partial<HavePage>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<HavePage>): HavePage;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<HavePage>): Generator<HavePagePageFieldEvent | HavePageBitmapFieldEvent>;
}
export interface Have {
    complete: boolean;
    pages: HavePage[];
    helps: boolean;
}
export declare namespace Have {
    const codec: () => Codec<Have>;
    interface HaveCompleteFieldEvent {
        field: '$.complete';
        value: boolean;
    }
    interface HavePagesPageFieldEvent {
        field: '$.pages[].page';
        value: number;
        index: number;
    }
    interface HavePagesBitmapFieldEvent {
        field: '$.pages[].bitmap';
        value: Uint8Array<ArrayBuffer>;
        index: number;
    }
    interface HaveHelpsFieldEvent {
        field: '$.helps';
        value: boolean;
    }
    function encode(obj: Partial<Have>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Have>): Have;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Have>): Generator<HaveCompleteFieldEvent | HavePagesPageFieldEvent | HavePagesBitmapFieldEvent | HaveHelpsFieldEvent>;
}
export interface PeerHint {
    peer: string;
    addresses: string[];
}
export declare namespace PeerHint {
    const codec: () => Codec<PeerHint>;
    interface PeerHintPeerFieldEvent {
        field: '$.peer';
        value: string;
    }
    interface PeerHintAddressesFieldEvent {
        field: '$.addresses[]';
        index: number;
        value: string;
    }
    function encode(obj: Partial<PeerHint>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<PeerHint>): PeerHint;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<PeerHint>): Generator<PeerHintPeerFieldEvent | PeerHintAddressesFieldEvent>;
}
export interface Busy {
    others: PeerHint[];
    retryAfterMs: number;
}
export declare namespace Busy {
    const codec: () => Codec<Busy>;
    interface BusyOthersPeerFieldEvent {
        field: '$.others[].peer';
        value: string;
        index: number;
    }
    interface BusyOthersAddressesFieldEvent {
        field: '$.others[].addresses[]';
        index: number;
        value: string;
    }
    interface BusyRetryAfterMsFieldEvent {
        field: '$.retryAfterMs';
        value: number;
    }
    function encode(obj: Partial<Busy>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Busy>): Busy;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Busy>): Generator<BusyOthersPeerFieldEvent | BusyOthersAddressesFieldEvent | BusyRetryAfterMsFieldEvent>;
}
export interface Problem {
    code: string;
    message: string;
}
export declare namespace Problem {
    const codec: () => Codec<Problem>;
    interface ProblemCodeFieldEvent {
        field: '$.code';
        value: string;
    }
    interface ProblemMessageFieldEvent {
        field: '$.message';
        value: string;
    }
    function encode(obj: Partial<Problem>): Uint8Array<ArrayBuffer>;
    function decode(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Problem>): Problem;
    function stream(buf: Uint8Array | Uint8ArrayList, opts?: DecodeOptions<Problem>): Generator<ProblemCodeFieldEvent | ProblemMessageFieldEvent>;
}

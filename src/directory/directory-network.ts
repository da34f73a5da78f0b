/** What the directory needs of libp2p: no more than this, so that a test can stand in at the network's edge. */

import type { Libp2p } from '@libp2p/interface'

export type DirectoryNetwork = Pick<
  Libp2p,
  'peerId' | 'handle' | 'unhandle' | 'dial' | 'dialProtocol' | 'getConnections'
>

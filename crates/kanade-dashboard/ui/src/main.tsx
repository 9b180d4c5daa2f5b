import './styles';
import './app.css';

import { MantineProvider } from '@mantine/core';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { ApiError } from './api/client';
import { Gate } from './components/gate';
import { Telling } from './components/act';
import { LiveProvider } from './live/live';
import { router } from './router';
import { theme } from './theme';

const client = new QueryClient({
  defaultOptions: {
    queries: {
      // Events say when an answer is out of date; a view that opens asks anew.
      staleTime: 0,
      refetchOnWindowFocus: false,
      refetchOnReconnect: false,
      networkMode: 'always',
      retry: (failures, error) => error instanceof ApiError && [0, 502, 503, 504].includes(error.status) && failures < 2,
      retryDelay: (attempt) => Math.min(500 * 2 ** attempt, 4000),
    },
    mutations: { networkMode: 'always' },
  },
});

const root = document.getElementById('root');
if (root === null) throw new Error('index.html has no #root');
createRoot(root).render(
  <StrictMode>
    <MantineProvider theme={theme} defaultColorScheme="auto">
      <QueryClientProvider client={client}>
        <Telling>
          <Gate>
            <LiveProvider>
              <RouterProvider router={router} />
            </LiveProvider>
          </Gate>
        </Telling>
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
